"""VariableFit: its expectations against sums and draws, its estimators against the exact gradient, its runs."""

import csv

import pytest
import torch
import yaml
from lightning import seed_everything
from simulate import Moments, worst
from trainers import stepwise_trainer

from ils_lightning.cli import main
from ils_lightning.compare import compare
from ils_lightning.data import Digits, NoData
from ils_lightning.errors import Refusal
from ils_lightning.estimators import ILSNewton, ReinMax
from ils_lightning.losses_of_values import SquaredDistance, Wave
from ils_lightning.modules import VariableFit
from ils_lightning.packaged import find
from ils_lightning.variables import (
    Bernoulli,
    Binomial,
    Gaussian,
    ILSNatural,
    LeaveOneOutNatural,
    OfCategories,
    Ordinal,
    Poisson,
    Reparameterised,
    Summed,
)

THETA = torch.tensor([-0.8, 0.1, 0.9], dtype=torch.float64)
LAWS = [Bernoulli(), Binomial(6), Ordinal(4), Poisson(), Gaussian(1.7)]
NATURAL = [law for law in LAWS if not isinstance(law, Ordinal)]
named = pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
natural = pytest.mark.parametrize("law", NATURAL, ids=lambda law: type(law).__name__)


def wave(x):
    return Wave(1.3)(x, torch.tensor(0.4))


def of_rows(x):
    return wave(x).sum(dim=-1)


def exact(law):
    """The gradient by the law's nodes."""
    theta = THETA.clone().requires_grad_()
    x, weight = law.nodes(theta)
    (gradient,) = torch.autograd.grad((weight * wave(x)).sum(), theta)
    return gradient


@named
def test_weights_of_nodes_sum_to_one(law):
    _, weight = law.nodes(THETA)
    torch.testing.assert_close(weight.sum(dim=0), torch.ones_like(THETA))


@natural
def test_nodes_give_mean_and_variance(law):
    x, weight = law.nodes(THETA)
    mu = law.mean(THETA)
    torch.testing.assert_close((weight * x).sum(dim=0), mu)
    torch.testing.assert_close((weight * (x - mu).square()).sum(dim=0), law.variance(mu))


@natural
def test_nodes_give_the_mean_of_draws(law):
    torch.manual_seed(0)
    moments = Moments()
    moments.add(wave(law.draw(law.mean(THETA).expand(100_000, -1))))
    x, weight = law.nodes(THETA)
    assert worst(moments, (weight * wave(x)).sum(dim=0)) < 1


def delivered(estimator, rows=40_000):
    torch.manual_seed(1)
    theta, moments = THETA.expand(rows, -1).clone().requires_grad_(), Moments()
    estimator(theta, of_rows).sum().backward()
    moments.add(theta.grad)
    return moments


@natural
def test_leave_one_out_is_unbiased_for_every_loss(law):
    for samples in (2, 3):
        assert worst(delivered(LeaveOneOutNatural(law, samples)), exact(law)) < 1


def test_reparameterisation_is_unbiased_for_every_loss():
    assert worst(delivered(Reparameterised(Gaussian(1.7))), exact(Gaussian(1.7))) < 1


def test_the_step_of_counts_is_biased_for_waves():
    """What the comparison tells: between whole numbers a wave says little of its values there."""
    assert worst(delivered(ILSNatural(Poisson())), exact(Poisson())) > 1
    assert worst(delivered(ILSNatural(Gaussian(1.7))), exact(Gaussian(1.7))) < 1


@named
def test_summed_delivers_the_gradient(law):
    theta = THETA[:, None].clone().requires_grad_()
    Summed(law)(theta, of_rows).sum().backward()
    torch.testing.assert_close(theta.grad[:, 0], exact(law))


def fit(folder, steps, estimator, resume=None, data=None, **options):
    seed_everything(3, verbose=False)
    module = VariableFit(estimator, latents=6, **options)
    trainer = stepwise_trainer(folder, steps)
    trainer.fit(module, datamodule=data or NoData(), ckpt_path=resume)
    return module, trainer


def test_starts_at_one_and_the_grid_holds_the_optimum():
    module = VariableFit(Summed(Poisson()), targets=(2.5, 2.5), latents=1, separate=True)
    mu = torch.linspace(0.1, 6, 60_000, dtype=torch.float64)  # E (x - t)^2 = mu + (mu - t)^2, least at mu = t - 1/2
    assert module._range[1] == pytest.approx(float((mu + (mu - 2.5).square()).min()), abs=1e-5)
    assert module.track(module.logits.detach()[None]).item() == pytest.approx(1)
    assert module.track(torch.tensor([[2.0]]).log()).item() == pytest.approx(0, abs=1e-5)


def test_the_gradient_of_a_step_is_that_of_the_expectation():
    module = VariableFit(Summed(Binomial(6)), Wave(1.3), latents=5, draws=1, separate=True)
    module.logits.data.uniform_(-1, 1)
    (expected,) = torch.autograd.grad(module.expected_loss(module.logits), module.logits)
    loss, found = module.gradient(torch.tensor(0))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(loss.double(), module.expected_loss(module.logits.detach()), check_dtype=False)


def test_of_categories_and_ils_approach_the_optimum(tmp_path):
    def fast(parameters):
        return torch.optim.Adam(parameters, lr=0.03)

    for number, estimator in enumerate([OfCategories(Ordinal(5), ILSNewton()), ILSNatural(Poisson())]):
        module, _ = fit(tmp_path / str(number), 300, estimator, targets=(1.0, 3.0), chunk=100, optimizer=fast)
        _, values = module.curve()
        assert values[-1] < 0.02 < values[0] == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: ILSNatural(Poisson()),
        lambda: LeaveOneOutNatural(Poisson()),
        lambda: Reparameterised(Gaussian()),
        lambda: OfCategories(Ordinal(), ReinMax()),
    ],
    ids=["ILSNatural", "LeaveOneOutNatural", "Reparameterised", "OfCategories"],
)
def test_chunks_equal_single_steps(tmp_path, make):
    chunked, trainer = fit(tmp_path, 7, make(), chunk=3)
    single, _ = fit(tmp_path, 7, make(), chunk=1, record_every=1)
    assert trainer.global_step == 7
    torch.testing.assert_close(chunked.logits, single.logits)


def test_resumed_run_continues_the_same_curve(tmp_path):
    options = {"chunk": 4, "separate": True, "draws": 1}
    whole, _ = fit(tmp_path / "whole", 8, Summed(Poisson()), **options)
    fit(tmp_path / "parts", 4, Summed(Poisson()), **options)
    resumed, _ = fit(tmp_path / "parts", 8, Summed(Poisson()), tmp_path / "parts" / "last.ckpt", **options)
    assert torch.equal(whole.logits, resumed.logits)
    assert torch.equal(whole.curve()[1], resumed.curve()[1])
    loaded = VariableFit.load_from_checkpoint(tmp_path / "parts" / "last.ckpt", weights_only=True)
    assert isinstance(loaded.estimator.family, Poisson)
    assert isinstance(loaded.loss, SquaredDistance)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: VariableFit(ILSNatural(Poisson()), latents=0), "VariableFit: latents must be at least 1; given 0"),
        (lambda: VariableFit(ILSNatural(Poisson()), targets=(2.0, 1.0)), "targets must be the lowest and the highest"),
        (lambda: Poisson().nodes(torch.tensor([1.0, 20.0])), "rates up to 10,000; given 4.85e"),
        (lambda: Wave(0.0), "Wave: frequency must be greater than 0 and finite; given 0"),
        (lambda: LeaveOneOutNatural(Poisson(), 1), "LeaveOneOutNatural needs samples of at least 2; given 1"),
        (lambda: Summed(Poisson())(torch.zeros(4, 2), of_rows), "Summed takes rows of one latent; given 2"),
    ],
)
def test_bad_input_is_refused(make, text):
    with pytest.raises(Refusal, match=text):
        make()


def test_data_are_refused(tmp_path):
    with pytest.raises(Refusal, match="VariableFit sees no data: give --data NoData; given Digits"):
        fit(tmp_path, 1, ILSNatural(Poisson()), data=Digits())


@pytest.mark.long
def test_the_command_line_takes_a_law_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--model.estimator=Reparameterised", "--model.estimator.family=Gaussian", "--model.loss=Wave"]
    main(["fit", "--config=variables_toy", *words, "--trainer.max_steps=2"])
    assert "Reparameterised(family=Gaussian(scale=1.0))" in capsys.readouterr().out


@pytest.mark.long
def test_every_run_of_the_comparison_trains(tmp_path):
    content = yaml.safe_load(find("compare/variables_toy").read_text())
    content["change"] |= {"trainer.max_steps": 2, "model.init_args.chunk": 1, "model.init_args.latents": 3}
    del content["tune"]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**content, "seeds": [1]}))
    folder = compare(str(tmp_path / "small.yaml"), tmp_path / "out")
    rows = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    assert len(rows) == sum(len(run.get("only", content["settings"]["levels"])) for run in content["runs"])
    assert {row["failed"] for row in rows} == {""}


def test_what_has_no_categories_is_not_diagnosed():
    with pytest.raises(Refusal, match=r"VariableFit has no problem\(batch\).*logits of categorical draws"):
        VariableFit(Summed(Poisson())).problem(None)
