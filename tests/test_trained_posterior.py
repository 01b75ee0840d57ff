"""Models measure what they train: KL, draws, codes and pictures are those of the estimator's own distribution."""

import itertools
import math

import pytest
import torch
from lightning import Trainer, seed_everything
from torch import Tensor

from ils_lightning.data import Digits, ListOps
from ils_lightning.data.images import Images
from ils_lightning.estimators import (
    Average,
    DecoupledStraightThroughGumbelSoftmax,
    EntmaxMarginal,
    SparsemaxMarginal,
    TopKSubset,
)
from ils_lightning.estimators.categorical import softmax
from ils_lightning.estimators.intermediate import simplex
from ils_lightning.modules import (
    CategoricalFit,
    CodePrior,
    DiscreteVAE,
    HardAttention,
    HierarchicalVAE,
    LatentTree,
    LearntPrior,
    PolynomialProgramming,
)
from ils_lightning.modules.code_measures import CodeMeasures, Evaluation
from ils_lightning.networks import MLP

SHAPE = (1, 2, 2)
OWN = {
    "sparsemax": SparsemaxMarginal,
    "entmax": EntmaxMarginal,
    "decoupled": lambda: DecoupledStraightThroughGumbelSoftmax(0.5, 1.0),
    "pairs": lambda: TopKSubset(2),
    "average": lambda: Average(DecoupledStraightThroughGumbelSoftmax(2.0), samples=2),
}
of_its_own = pytest.mark.parametrize("make", OWN.values(), ids=OWN)


def tiny(estimator, kind: type = DiscreteVAE, **options):
    torch.manual_seed(0)
    networks = {name: MLP([4], activation="tanh") for name in ("encoder", "decoder")}
    model = kind(estimator, categories=4, image_shape=list(SHAPE), prior=LearntPrior(), **networks, **options).double()
    for parameter in model.parameters():
        parameter.data.mul_(2)
    model.prior.logits.data.normal_()
    return model


def pixels(rows: int = 3) -> Tensor:
    return (torch.rand(rows, *SHAPE, generator=torch.Generator().manual_seed(5)) > 0.5).double()


def codes(ones: int, latents: int = 2, categories: int = 4) -> Tensor:
    """All codes `[states, latents, categories]` of so many ones a latent."""
    one = torch.tensor([[i in c for i in range(categories)] for c in itertools.combinations(range(categories), ones)])
    return torch.stack([torch.stack(both) for both in itertools.product(one.double(), repeat=latents)])


def log_prob_by_hand(estimator, logits: Tensor, z: Tensor) -> Tensor:
    """Log q(z) `[states, batch]`, without the package's distributions."""
    estimator = getattr(estimator, "estimator", estimator)
    if isinstance(estimator, SparsemaxMarginal):
        return (z.unsqueeze(1) * estimator.probabilities(logits).unsqueeze(0)).sum(dim=-1).log().sum(dim=-1)
    theta = logits / getattr(estimator, "forward_temperature", 1.0)
    each = torch.einsum("slk,blk->sbl", codes(estimator.ones, 1).expand(-1, theta.shape[-2], -1), theta)
    return torch.einsum("slk,blk->sb", z, theta) - each.logsumexp(dim=0).sum(dim=-1)


def enumerated(model, x: Tensor) -> Tensor:
    """-ELBO `[batch]` as a sum over all codes."""
    logits, z = model.encoder(x), codes(model.estimator.ones)
    log_q = log_prob_by_hand(model.estimator, logits, z)
    prior = model.prior.logits.unsqueeze(0)
    log_p = log_prob_by_hand(TopKSubset(model.estimator.ones), prior, z)
    likelihood = model.likelihood.log_prob(model.decoder(z.unsqueeze(1).expand(-1, len(x), -1, -1)), x)
    q = log_q.exp()
    return torch.where(q > 0, q * (log_q - log_p - likelihood), 0).sum(dim=0)


@pytest.mark.slow
@of_its_own
def test_training_and_test_objective_are_the_sum_over_all_codes(make):
    model, x = tiny(make(), latents=2), pixels()
    with torch.no_grad():
        expected = enumerated(model, x)
        trained = torch.stack([model.objective(x).negative_elbo for _ in range(500)])
        found = model.evaluate(x, 20_000)
    tested = found.reconstruction + found.kl.sum(dim=-1)
    for estimates in (trained, tested, -found.log_weights):
        error = estimates.std(dim=0) / len(estimates) ** 0.5
        assert ((estimates.mean(dim=0) - expected).abs() < 4.5 * error + 1e-9).all()
    bound = math.log(len(found.log_weights)) - found.log_weights.logsumexp(dim=0)
    assert (bound < expected).all()


@pytest.mark.parametrize("make", [SparsemaxMarginal, EntmaxMarginal])
def test_marginalisation_descends_the_gradient_of_its_whole_objective(make):
    model, x = tiny(make(), latents=2), pixels()
    parameters = list(model.parameters())
    loss = model.objective(x).loss
    gradient = torch.nn.utils.parameters_to_vector(torch.autograd.grad(loss, parameters))
    at, size = torch.nn.utils.parameters_to_vector(parameters).detach(), 1e-5
    direction = torch.randn(len(at), dtype=at.dtype)
    both = []
    for sign in (1, -1):
        torch.nn.utils.vector_to_parameters(at + sign * size * direction, parameters)
        both.append(enumerated(model, x).mean().item())
    assert (gradient @ direction).item() == pytest.approx((both[0] - both[1]) / (2 * size), rel=1e-5)


@pytest.mark.slow
@of_its_own
def test_layers_take_it_too(make):
    model, x = tiny(make(), HierarchicalVAE, latents=[2, 2]), pixels()
    with torch.no_grad():
        trained = torch.stack([model.objective(x).negative_elbo.mean() for _ in range(1000)])
        found = [model.evaluate(x, 20) for _ in range(200)]
    tested = torch.stack([(one.reconstruction.mean(dim=0) + one.kl.sum(dim=-1)).mean() for one in found])
    weights = torch.stack([-one.log_weights.mean() for one in found])
    for estimates in (tested, weights):
        error = (estimates.var() / len(estimates) + trained.var() / len(trained)).sqrt()
        assert (estimates.mean() - trained.mean()).abs() < 4.5 * error
    ones = model.estimator.ones
    assert (model.sample_prior(5).sum(dim=-1) == ones).all()
    (model.objective(x).loss).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@of_its_own
def test_codes_pictures_and_samples_are_of_its_kind(make):
    model, x = tiny(make(), latents=2), pixels()
    ones = model.estimator.ones
    found = model.predict_step(Images(x, torch.zeros(3)))
    assert found["codes"].shape == ((3, 2) if ones == 1 else (3, 2, ones))
    z = codes(ones)
    best = z[log_prob_by_hand(model.estimator, model.encoder(x), z).argmax(dim=0)]
    torch.testing.assert_close(found["reconstructions"], model.decode(best))
    assert (model.sample_prior(7).sum(dim=-1) == ones).all()
    model.remember(x)
    assert set(model.figures()) == {"reconstructions", "samples", "traversal"}
    images, _ = model.traversal(found["codes"][0].long())
    assert images.shape == (2, 4, *SHAPE)
    assert len(images.flatten(1).unique(dim=0)) == 2


def fit(model, folder, epochs: int, data=None) -> Trainer:
    seed_everything(0, verbose=False)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        default_root_dir=folder, accelerator="cpu", max_epochs=epochs, enable_model_summary=False, **quiet
    )
    trainer.fit(model, datamodule=data or Digits(validation=0))
    return trainer


@pytest.mark.long
@of_its_own
def test_digits_are_tested_with_the_posterior_that_was_trained(make, tmp_path):
    """Of the same images: with the KL of softmax and its draws sparsemax is 3 nats off after as many epochs."""
    data = Digits(validation=0)
    model = DiscreteVAE(make(), latents=4, categories=4 * make().ones, bias_from_data=False)
    fit(model, tmp_path, 8, data).test(model, datamodule=data, verbose=False)
    x = torch.cat([batch.x for batch in data.test_dataloader()])
    with torch.no_grad():
        trained = torch.stack([model.objective(x).negative_elbo.mean() for _ in range(20)]).mean()
    assert model.trainer.callback_metrics["test/loss"].item() == pytest.approx(trained.item(), abs=0.1)


def test_toy_tracks_the_distribution_of_the_draws(tmp_path):
    tau = [0.5, 2.0]
    model = CategoricalFit(DecoupledStraightThroughGumbelSoftmax(tau), categories=3, trials=4, settings=2)
    p = torch.rand(2, 4, 3).softmax(dim=-1)
    model._p = p
    expected = softmax(model.logits.detach() / torch.tensor(tau)[:, None, None])
    torch.testing.assert_close(model.present(), expected)
    kl = (p * (p / expected).log()).sum(dim=-1) / 3
    torch.testing.assert_close(model.track(model.logits.detach().expand(5, -1, -1, -1)), kl.expand(5, -1, -1))


def test_toy_of_sets_counts_each_category_of_a_set_alike():
    model = CategoricalFit(TopKSubset(2), categories=3, trials=1)
    model.logits.data.copy_(torch.tensor([[0.0, 1.0, 2.0]]))
    pairs = torch.tensor([1.0, 2.0, 3.0]).softmax(dim=0)  # {0, 1}, {0, 2}, {1, 2}
    marginals = torch.stack([pairs[0] + pairs[1], pairs[0] + pairs[2], pairs[1] + pairs[2]])
    torch.testing.assert_close(model.present(), marginals.unsqueeze(0) / 2)


def test_toys_know_sparse_draws():
    model = PolynomialProgramming(SparsemaxMarginal(), latents=3, power=3.0)
    model.logits.data.copy_(torch.tensor([[0.0, 2.0], [0.1, 0.0], [0.0, 0.0]]))
    pi = simplex(model.logits.detach())
    expected = (pi[:, 0] * 0.55**3 + pi[:, 1] * 0.45**3).mean()
    torch.testing.assert_close(model.expected_loss(model.logits).detach(), expected)
    torch.testing.assert_close(model.step_loss(torch.tensor(0)).detach(), expected)


def test_glimpses_and_arcs_follow_it(monkeypatch):
    model = HardAttention(DecoupledStraightThroughGumbelSoftmax(1e-3), glimpses=2, image_shape=[1, 4, 4]).eval()
    x = torch.rand(200, 1, 4, 4)
    seen = model(x)[1]
    first = model.look(model.start).argmax()
    assert (seen[:, 0].argmax(dim=-1) == first).all()
    data = ListOps(train=20, validation=20, test=20)
    data.prepare_data(), data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    tree = LatentTree(DecoupledStraightThroughGumbelSoftmax(1e-4), size=[data.longest, data.operators])
    tree.measure(batch)
    assert tree.metrics["error"].compute() == tree.metrics["error_of_draws"].compute()


def test_code_prior_learns_the_codes_that_are_drawn():
    settings = {"class_path": "DecoupledStraightThroughGumbelSoftmax", "init_args": {"forward_temperature": 1e-5}}
    model = CodePrior({"estimator": settings, "latents": 4, "categories": 3, "image_shape": [1, 8, 8]})
    x = torch.rand(50, 1, 8, 8)
    drawn, q = model.codes(x)
    assert (drawn == model.tokenizer.most_probable(x)).float().mean() > 0.95  # a third, drawn from softmax
    assert q.entropy().mean() < 0.1


@pytest.mark.parametrize(
    "make",
    [
        lambda estimator: PolynomialProgramming(estimator),
        lambda estimator: LatentTree(estimator),
        lambda _: CodePrior(
            {
                "estimator": {"class_path": "TopKSubset", "init_args": {"size": 2}},
                "latents": 4,
                "image_shape": [1, 8, 8],
            }
        ),
    ],
)
def test_models_of_single_categories_refuse_sets(make):
    with pytest.raises(ValueError, match=r"needs draws of one category a latent; TopKSubset\(size=2\) draws 2"):
        make(TopKSubset(2))
    with pytest.raises(ValueError, match="draws 2"):
        make(Average(TopKSubset(2)))


def test_sets_count_all_their_codes_once_an_image():
    metrics = CodeMeasures(latents=1, categories=4, layers=1)
    z = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]).reshape(2, 1, 1, 4)
    nothing = torch.zeros(2, 1)
    metrics.add(Evaluation(nothing, nothing[:1], nothing, z[0] / 2, z), draws=2, importance_samples=2)
    assert metrics.frequencies().tolist() == [[0.5, 0.5, 0.0, 0.0]]
    assert metrics.take()["code_usage"] == 0.5
