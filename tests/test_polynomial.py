"""PolynomialProgramming: its loss against autograd, its gradient against the closed form, its runs, its comparison."""

import csv

import pytest
import torch
import yaml
from lightning import seed_everything
from trainers import stepwise_trainer

from ils_lightning.compare import compare
from ils_lightning.compare.grid.spec import read
from ils_lightning.data import NoData
from ils_lightning.estimators import ILSCV, Exact, ILSIsotropic, LeaveOneOut, Rebar, ReinMax, StraightThrough
from ils_lightning.modules import PolynomialProgramming
from ils_lightning.modules.polynomial import Polynomial
from ils_lightning.packaged import find

EXACT = {"separate": True, "draws": 1}


def fit(folder, steps, estimator, resume=None, **options):
    seed_everything(3, verbose=False)
    module = PolynomialProgramming(estimator, **options)
    trainer = stepwise_trainer(folder, steps)
    trainer.fit(module, datamodule=NoData(), ckpt_path=resume)
    return module, trainer


@pytest.mark.parametrize("power", [1.5, 2, 3, 4])
def test_slope_of_the_loss_equals_autograd(power):
    f, z = Polynomial(power, 0.45), torch.rand(3, 4, 7, 2, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(f(z).sum(), z)
    torch.testing.assert_close(f.closed_form_gradient(z.detach()), expected)


@pytest.mark.parametrize("power", [1.5, 4])
def test_exact_with_separate_latents_is_the_closed_form(power):
    module = PolynomialProgramming(Exact(), power=power, **EXACT)
    expected = module.expected_loss(module.logits)
    (closed,) = torch.autograd.grad(expected, module.logits)
    loss, gradient = module.gradient(torch.tensor(0))
    torch.testing.assert_close(gradient, closed)
    torch.testing.assert_close(loss, expected)
    (delivered,) = torch.autograd.grad(module.step_loss(torch.tensor(0)), module.logits)
    torch.testing.assert_close(delivered, closed)


def test_exact_with_separate_latents_is_the_sum_over_all_states():
    module = PolynomialProgramming(Exact(), latents=6, **EXACT)
    joint = PolynomialProgramming(Exact(), latents=6, draws=1)
    joint.logits.data.copy_(module.logits.data)
    torch.testing.assert_close(joint.gradient(torch.tensor(0)), module.gradient(torch.tensor(0)))


@pytest.mark.parametrize(("options", "biased"), [({}, False), ({"separate": True}, False), ({"mutant": True}, True)])
def test_gradient_is_the_mean_over_draws_of_unbiased_estimates(options, biased):
    seed_everything(0, verbose=False)
    module = PolynomialProgramming(
        StraightThrough() if options.pop("mutant", False) else LeaveOneOut(2),
        power=3.0,
        latents=4,
        draws=500,
        **options,
    )
    module.logits.data.normal_()
    (closed,) = torch.autograd.grad(module.expected_loss(module.logits), module.logits)
    estimates = torch.stack([module.gradient(torch.tensor(0))[1] for _ in range(100)])[..., 0]
    z_score = (estimates.mean(dim=0) - closed[:, 0]) / estimates.std(dim=0) * 10
    assert (z_score.abs().max() > 4.5) == biased


@pytest.mark.parametrize("power", [1.5, 2, 3, 4])
def test_expectation_of_rein_max_is_the_gradient_times_a_number(power):
    theta, f, c = torch.randn(100, 1, 2, dtype=torch.float64), Polynomial(power, 0.45), 0.45
    pi, slopes = theta.softmax(dim=-1), []
    for z in torch.eye(2, dtype=torch.float64).unsqueeze(1).expand(2, 100, 2).unsqueeze(-2):
        slopes.append((pi * z).sum(-1, keepdim=True) * ReinMax().pullback(theta, pi, z, f.closed_form_gradient(z)))
    gradient = pi[..., :1] * pi[..., 1:] * ((1 - c) ** power - c**power)
    factor = power / 2 * ((1 - c) ** (power - 1) - c ** (power - 1)) / ((1 - c) ** power - c**power)
    torch.testing.assert_close(sum(slopes)[..., :1], factor * gradient)


def test_starts_halfway_and_reaches_the_best_vertex():
    module = PolynomialProgramming(ReinMax())
    assert module.track(module.logits.detach()[None]).item() == pytest.approx(0.5, abs=1e-3)
    vertices = torch.tensor([[-50.0, 50.0], [50.0, -50.0]])[:, None].expand(2, 128, 2)
    torch.testing.assert_close(module.track(vertices), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("make", [ReinMax, ILSCV, ILSIsotropic, LeaveOneOut], ids=lambda make: make.__name__)
def test_chunks_equal_single_steps(tmp_path, make):
    chunked, trainer = fit(tmp_path, 23, make(), chunk=10)
    single, _ = fit(tmp_path, 23, make(), chunk=1, record_every=1)
    assert trainer.global_step == 23
    torch.testing.assert_close(chunked.logits, single.logits)
    assert single.curve()[1].shape == (24,)


def test_an_estimator_with_parameters_trains_them(tmp_path):
    module, _ = fit(tmp_path, 6, Rebar(), chunk=3, latents=4)
    assert not torch.equal(*[torch.cat([p.flatten() for p in e.parameters()]) for e in (module.estimator, Rebar())])


def test_resumed_run_continues_the_same_curve(tmp_path):
    whole, _ = fit(tmp_path / "whole", 40, Exact(), chunk=10, **EXACT)
    fit(tmp_path / "parts", 20, Exact(), chunk=10, **EXACT)
    resumed, _ = fit(tmp_path / "parts", 40, Exact(), tmp_path / "parts" / "last.ckpt", chunk=10, **EXACT)
    assert torch.equal(whole.logits, resumed.logits)
    assert resumed.curve()[1][-1] == whole.curve()[1][-1] < whole.curve()[1][0]
    loaded = PolynomialProgramming.load_from_checkpoint(tmp_path / "parts" / "last.ckpt", weights_only=True)
    assert isinstance(loaded.estimator, Exact)
    assert loaded.separate


@pytest.mark.slow
def test_ils_cv_follows_the_exact_curve_and_rein_max_does_not(tmp_path):
    last = {
        name: float(fit(tmp_path, 600, estimator, power=1.5, chunk=300, **options)[0].curve()[1][-1])
        for name, estimator, options in [("exact", Exact(), EXACT), ("cv", ILSCV(), {}), ("reinmax", ReinMax(), {})]
    }
    assert abs(last["cv"] - last["exact"]) < 0.005
    assert last["reinmax"] - last["exact"] > 0.1


@pytest.mark.slow
def test_comparison_has_a_panel_for_each_power(tmp_path):
    content = yaml.safe_load(find("compare/polynomial").read_text())
    content["runs"] = content["runs"][:2]
    content["change"] = {"trainer.max_steps": 4, "model.init_args.chunk": 2, "model.init_args.latents": 3}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**content, "seeds": [0, 1]}))
    folder = compare(str(tmp_path / "small.yaml"), tmp_path / "out")
    rows = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    assert len(rows) == 4 * len(content["runs"])
    assert [row["setting"] for row in rows[:4]] == ["p = 1.5", "p = 2", "p = 3", "p = 4"]
    assert {row["tracked"] for row in rows} == {"(E loss - optimum) / range"}
    assert len(list(folder.glob("runs/*/result.pt"))) == 2 * len(rows)
    assert (folder / "figure.svg").stat().st_size > 5000


def test_data_without_a_seed_are_given_none():
    comparison = read("compare/polynomial")
    assert comparison.configuration(comparison.runs[0], 7)["data"] == {"class_path": "NoData"}
    toy = read("compare/toy1")
    assert toy.configuration(toy.runs[0], 7)["data"]["init_args"]["seed"] == 7


@pytest.mark.slow
def test_a_bias_floor_needs_true_distributions(tmp_path):
    content = yaml.safe_load(find("compare/polynomial").read_text())
    content["change"] = {"trainer.max_steps": 1, "model.init_args.chunk": 1}
    content["runs"] = [{**content["runs"][0], "floor": True}]
    (tmp_path / "floor.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match="the data of 'exact gradient' have none"):
        compare(str(tmp_path / "floor.yaml"), tmp_path / "out")


def test_a_comparison_needs_a_recorded_curve(tmp_path, monkeypatch):
    monkeypatch.setattr(PolynomialProgramming, "tracked", None)
    with pytest.raises(
        ValueError, match=r"`tracked` .* with a method `curve\(\)` .*; PolynomialProgramming has neither"
    ):
        compare("compare/polynomial", tmp_path / "out")


@pytest.mark.parametrize("options", [{"power": 1.0}, {"centre": 0.5}, {"latents": 0}, {"chunk": 0}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=f"PolynomialProgramming: .*{next(iter(options))}"):
        PolynomialProgramming(ReinMax(), **options)


def test_exact_says_why_it_cannot_sum_over_all_states():
    with pytest.raises(ValueError, match=r"2 \*\* 128"):
        PolynomialProgramming(Exact()).gradient(torch.tensor(0))
