"""Vimco in a DiscreteVAE descends the multi-sample bound on -log p(x), of whole weights; elsewhere it is refused."""

import math

import pytest
import torch
from torch import Tensor

from ils_lightning.estimators import Average, ReinMax, Vimco
from ils_lightning.modules import DiscreteVAE, HierarchicalVAE, LearntPrior
from ils_lightning.networks import MLP

SHAPE = (1, 2, 2)
VIMCO = {"plain": lambda: Vimco(samples=2), "averaged": lambda: Average(Vimco(samples=2), samples=3)}
EVERY = torch.eye(4, dtype=torch.float64)[:, None, None]  # all codes of one latent, `[states, 1, 1, 4]`


def tiny(estimator, **options) -> DiscreteVAE:
    torch.manual_seed(0)
    networks = {"encoder": MLP([]), "decoder": MLP([4], activation="tanh")}
    options = {"latents": 1, "categories": 4, "image_shape": list(SHAPE), "prior": LearntPrior(), **networks} | options
    model = DiscreteVAE(estimator, **options).double()
    model.decoder.layers[-1].weight.data.mul_(5)
    model.prior.logits.data.normal_()
    return model


def pixels(rows: int) -> Tensor:
    return (torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(5)) > 0.5).double().expand(rows, *SHAPE)


def log_joint(model: DiscreteVAE, x: Tensor) -> Tensor:
    """Log p(x, z) of one image and every code, `[4]`."""
    return (model.likelihood.log_prob(model.decoder(EVERY), x[:1]) + model.prior.log_prob(EVERY)).squeeze(-1)


def bound_of_two(model: DiscreteVAE, x: Tensor) -> Tensor:
    """E -log (w_1 + w_2) / 2 by the sum over pairs of codes."""
    log_q = model.encoder(x[:1]).log_softmax(dim=-1).flatten()
    log_w = log_joint(model, x) - log_q
    pairs = torch.logaddexp(log_w[:, None], log_w) - math.log(2)
    return -(log_q.exp()[:, None] * log_q.exp() * pairs).sum()


@pytest.mark.parametrize("make", VIMCO.values(), ids=VIMCO)
def test_it_is_the_evidence_at_the_true_posterior_whatever_is_drawn(make):
    """With -log p(x | z) alone in f and the KL outside it lies below -log p(x), and is no bound."""
    model, x = tiny(make()), pixels(50)
    joint = log_joint(model, x).detach()
    last = model.encoder.layers[-1]
    last.weight.data.zero_(), last.bias.data.copy_(joint)
    expected = -joint.logsumexp(dim=0).expand(50)
    torch.testing.assert_close(model.objective(x).negative_elbo, expected)
    logits, (recon, kl) = model.encoder(x), (model.reconstruction_loss(x), model.prior.kl(model.encoder(x)))
    mixed = torch.stack([model.estimator(logits, recon) + kl.sum(dim=-1) for _ in range(400)]).mean()
    assert mixed < expected[0] - 0.01


@pytest.mark.slow
@pytest.mark.parametrize("make", VIMCO.values(), ids=VIMCO)
def test_loss_and_gradient_are_those_of_the_bound(make):
    model, x = tiny(make()), pixels(100)
    parameters = list(model.parameters())
    expected = bound_of_two(model, x)
    wanted = torch.nn.utils.parameters_to_vector(torch.autograd.grad(expected, parameters))
    evidence = -log_joint(model, x).logsumexp(dim=0)
    elbo = model.evaluate(x, 200)
    losses, gradients = [], []
    for _ in range(300):
        found = model.objective(x)
        losses.append(found.negative_elbo.mean())
        gradients.append(torch.nn.utils.parameters_to_vector(torch.autograd.grad(found.loss, parameters)))
    for sample, truth in ((torch.stack(losses)[:, None], expected), (torch.stack(gradients), wanted)):
        error = sample.std(dim=0) / len(sample) ** 0.5
        assert ((sample.mean(dim=0) - truth).abs() <= 5 * error + 1e-12).all()
    assert evidence < expected < (elbo.reconstruction.mean() + elbo.kl.mean())


def test_warm_up_weighs_the_terms_that_are_not_the_images(monkeypatch):
    model, x = tiny(Vimco(2), kl_warmup=10), pixels(20)
    monkeypatch.setattr(DiscreteVAE, "global_step", 0)
    torch.manual_seed(1)
    found = model.objective(x).negative_elbo
    torch.manual_seed(1)
    torch.testing.assert_close(found, model.estimator(model.encoder(x), model.reconstruction_loss(x)).detach())


def test_where_it_cannot_be_a_bound_it_is_refused():
    with pytest.raises(ValueError, match=r"free_bits are for KL terms.* bound of Vimco\(samples=2\) has none"):
        tiny(Vimco(2), free_bits=0.1)
    with pytest.raises(ValueError, match=r"HierarchicalVAE nests means over draws, and the loss of Average"):
        HierarchicalVAE(Average(Vimco()))
    assert not ReinMax().needs_log_weight
