"""The mixture of experts on text: its layers and gradients against enumeration, and what a run shows."""

import csv
import itertools
import math
from pathlib import Path

import pytest
import torch
import yaml
from lightning import seed_everything
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional
from trainers import quiet_trainer

from ils_lightning.cli import main
from ils_lightning.compare import compare
from ils_lightning.compare.grid.spec import read
from ils_lightning.compare.training.evaluations import evaluations as evaluations_of_a_step
from ils_lightning.compare.training.previews import Previews
from ils_lightning.data import Digits, Text
from ils_lightning.data.characters import codes_of
from ils_lightning.data.passage_set import Passages
from ils_lightning.estimators import ILSNewton, LeaveOneOut, ReinMax, SparseMixer, SparseMixerV2, StraightThrough
from ils_lightning.estimators.replacing import replacing_draws
from ils_lightning.layers import DenseMixer, Router, TopKGate
from ils_lightning.modules import MixtureOfExperts
from ils_lightning.modules.router_gradient import estimates, exact
from ils_lightning.networks.experts import Experts
from ils_lightning.packaged import find

TINY = {"experts": 2, "width": 8, "layers": 2, "heads": 2, "hidden": 4, "balance": 0.0}


def tiny(estimator, **options):
    torch.manual_seed(1)
    model = MixtureOfExperts(estimator, **{**TINY, **options}).double()
    for block in model.blocks:
        torch.nn.init.normal_(block.gate.weight)
        torch.nn.init.normal_(block.experts.second)
    return model


def silent(model):
    """The model without a Trainer to log to."""
    model.log_training = lambda *_, **__: None
    return model


@pytest.mark.parametrize("top_k", [1, 2])
def test_experts_give_the_same_sum_whether_all_or_the_drawn_ones_are_computed(top_k):
    layer, x = Experts(4, 6, 5).double(), torch.randn(2, 3, 6, dtype=torch.float64)
    router = Router(4, top_k, TopKGate(size=top_k)).double()
    routing = router(torch.randn(2, 3, 4, dtype=torch.float64))
    wanted = torch.einsum("...e,...ew->...w", routing.weights, layer.outputs(x))
    torch.testing.assert_close(layer.mixed(x, routing.weights), wanted)
    torch.testing.assert_close(layer.routed(x, routing), wanted)


def test_a_character_is_predicted_from_those_before_it():
    model = tiny(ReinMax()).eval()
    a, b = codes_of("the statement").long(), codes_of("the stateless").long()
    found = [model(one.unsqueeze(0))[0][0] for one in (a, b)]
    torch.testing.assert_close(found[0][:9], found[1][:9])
    assert (found[0][10:] - found[1][10:]).abs().amax() > 1e-3
    moved = model(torch.cat([a[:1], a]).unsqueeze(0))[0][0]  # places count
    assert (moved[2] - found[0][1]).abs().max() > 1e-3


def gradient_by_enumeration(model, characters):
    """Gradient to all gates of the expected mean loss, over every path of draws."""
    layers, tokens = len(model.blocks), characters.shape[-1] - 1
    total = 0.0
    for path in itertools.product(range(model.experts), repeat=layers * tokens):
        drawn = iter(functional.one_hot(torch.tensor(path), model.experts).double().split(tokens))
        log_p = []

        def draw(_, logits, drawn=drawn, log_p=log_p):
            z = next(drawn).reshape(logits.shape)
            log_p.append((z * logits.log_softmax(-1)).sum())
            return z

        with replacing_draws(draw):
            losses, _ = model.losses(characters)
        total = total + torch.stack(log_p).sum().exp() * losses.mean()
    return torch.autograd.grad(total, [block.gate.weight for block in model.blocks])


@pytest.mark.parametrize(("estimator", "biased"), [(LeaveOneOut(2), False), (StraightThrough(), True)])
def test_gates_of_all_layers_get_the_gradient_of_the_expected_loss(estimator, biased):
    """Two layers and two characters, so that draws change each other's logits: 16 paths."""
    model = silent(tiny(estimator))
    characters = codes_of("a b").long().unsqueeze(0)
    wanted = torch.cat([g.flatten() for g in gradient_by_enumeration(model.eval(), characters)])
    model.train()
    found = []
    for _ in range(40):
        loss = model.training_step(Passages(characters.expand(250, -1)))
        gradients = torch.autograd.grad(loss, [block.gate.weight for block in model.blocks])
        found.append(torch.cat([g.flatten() for g in gradients]))
    found = torch.stack(found)
    score = (found.mean(0) - wanted) / (found.std(0) / math.sqrt(len(found)))
    assert (score.abs().max() > 5) == biased


LAST = torch.tensor([[0.5, -0.3, 0.9], [0.1, 0.8, -0.2]], dtype=torch.float64)
OUTPUTS = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def bent(weights):
    """A curved loss of the mixed output of each token; the two come as often as wanted."""
    outputs = OUTPUTS.repeat(weights.shape[-2] // 2, 1, 1)
    return (torch.einsum("...te,tew->...tw", weights, outputs) - 0.7).square().sum(dim=-1)


def test_the_exact_gradient_of_a_router_is_that_of_the_sum_over_experts():
    router, theta = Router(3, 1, ReinMax()).eval(), LAST.clone().requires_grad_()
    p = theta.softmax(-1)
    alone = [torch.stack([bent(functional.one_hot(torch.tensor([e, e]), 3) * p)]) for e in range(3)]
    (wanted,) = torch.autograd.grad(sum((p[:, e] * alone[e][0]).sum() for e in range(3)), theta)
    torch.testing.assert_close(exact(LAST, router, bent), wanted)


@pytest.mark.parametrize(
    ("estimator", "group", "biased"),
    [
        (LeaveOneOut(2), 2, False),
        (ReinMax(), 1, False),  # the loss is quadratic in the draw
        (SparseMixer(), 1, True),
        (SparseMixerV2(), 1, True),
        (TopKGate(), 1, True),
    ],
)
def test_what_a_router_gets_is_held_against_it(estimator, group, biased):
    router = Router(3, 1, estimator).eval()
    found = estimates(LAST.repeat(1500, 1), router, bent, group, 2).view(3000, 2, 3)
    error = (found.mean(0) - exact(LAST, router, bent)).abs()
    assert (error > 5 * found.std(0) / math.sqrt(3000) + 1e-9).any() == biased
    assert not router.training


def test_gates_without_a_draw_have_the_gradients_that_they_are_known_for():
    theta = LAST.clone().requires_grad_()
    p, outputs = theta.softmax(-1), OUTPUTS.clone()
    chosen = functional.one_hot(LAST.argmax(-1), 3).double()
    slope = torch.einsum("tew,tw->te", outputs, 2 * (torch.einsum("te,tew->tw", chosen * p, outputs) - 0.7)).detach()
    for gate, counted in ((TopKGate(), chosen), (DenseMixer(), torch.ones_like(chosen))):
        (wanted,) = torch.autograd.grad((counted * slope * p).sum(), theta, retain_graph=True)
        leaf = LAST.clone().requires_grad_()
        routing = Router(3, 1, gate)(leaf)
        torch.testing.assert_close(routing.weights, (chosen * p).detach(), check_dtype=False)
        (found,) = torch.autograd.grad(bent(routing.weights).sum(), leaf)
        torch.testing.assert_close(found, wanted)


def test_every_layer_learns_a_state_of_its_own():
    model = silent(MixtureOfExperts(ILSNewton(), **{**TINY, "experts": 4}))
    model.training_step(Passages(torch.randint(97, (4, 30)))).backward()
    states = [block.router.estimator.P for block in model.blocks]
    assert all(state.abs().sum() > 0 for state in states)
    assert not torch.equal(*states)
    assert model.blocks[0].router.estimator is model.estimator


@pytest.mark.parametrize(
    ("estimator", "top_k", "evaluations"),
    [("TopKGate", 1, 1), ("SparseMixerV2", 2, 2), ("ReinMax", 1, 4), ("DenseMixer", 1, 4), (LeaveOneOut(3), 1, 3)],
)
def test_evaluations_are_those_of_experts(estimator, top_k, evaluations):
    model, data = MixtureOfExperts(estimator, top_k=top_k, **{**TINY, "experts": 4}), Text(length=20, batch_size=3)
    assert evaluations_of_a_step(model, data) == 3 * 20 * 2 * evaluations


def test_problem_is_the_last_layers_and_rows_do_not_mix():
    model = tiny(ReinMax(), experts=3).eval()
    batch = Passages(torch.randint(97, (2, 7)))
    logits, f, _ = model.problem(batch)
    assert logits.shape == (12, 1, 3)
    best = functional.one_hot(logits.argmax(-1), 3).double()
    torch.testing.assert_close(f(best.unsqueeze(0))[0], model.losses(batch.characters)[0].flatten())
    z = torch.eye(3, dtype=torch.float64)[torch.randint(3, (2, 12, 1))]
    torch.testing.assert_close(f(z)[1], f(z[1:])[0])
    with pytest.raises(ValueError, match="SparseMixer draws one after another"):
        tiny(SparseMixerV2(), experts=3, top_k=2).problem(batch)


def test_writing_depends_on_the_seed_alone_and_goes_on_from_the_start():
    model = tiny(ReinMax())
    a, b, c = (model.write(2, 5, "if x", torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert a == b != c
    assert [len(text) for text in a] == [9, 9]
    assert all(text.startswith("if x") for text in a)
    assert model.training
    with pytest.raises(ValueError, match="must be at least 1 long; given 1, 0 and 'a'"):
        model.write(1, 0, "a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10, "heads": 4}, "width must be a multiple of twice heads; given 10 and 4$"),
        ({"balance": -1.0}, "balance must be 0 or more; given -1.0"),
        ({"top_k": 2}, "top_k must be at least 1 and below experts; given 2 of 2"),
        ({"top_k": 2, "experts": 4}, "ReinMax draws 1 of the experts, top_k is 2"),
        ({"estimator": "Rebar"}, "Rebar neither draws differentiably nor takes costs later"),
        ({"estimator": "GumbelSoftmax"}, "hands f relaxed draws"),
        ({"layers": 0}, "MixtureOfExperts: layers must be at least 1; given 0$"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MixtureOfExperts(**{"estimator": "ReinMax", **TINY, **options})


def test_gates_weigh_by_probability():
    with pytest.raises(ValueError, match=r"TopKGate learns by the probabilities .* given even"):
        Router(4, 1, TopKGate(), combine="even")
    with pytest.raises(ValueError, match="TopKGate: size must be at least 1; given 0"):
        TopKGate(size=0)


def fit(folder, estimator, data=None, **options):
    seed_everything(0, verbose=False)
    short = {"max_epochs": 3, "limit_train_batches": 20, "limit_val_batches": 2}
    trainer = quiet_trainer(folder, **short, num_sanity_val_steps=1)
    small = {"experts": 4, "width": 16, "layers": 2, "heads": 2, "hidden": 16}
    model = MixtureOfExperts(estimator, optimizer=lambda p: torch.optim.Adam(p, lr=0.02), **{**small, **options})
    trainer.fit(model, datamodule=data or Text(length=32))
    return model, trainer


@pytest.mark.long
@pytest.mark.parametrize(
    ("estimator", "top_k"), [("SparseMixerV2Star", 1), (LeaveOneOut(2), 1), (ILSNewton(), 1), ("SparseMixerV2", 2)]
)
def test_every_kind_of_estimator_learns_to_write(estimator, top_k, tmp_path):
    model, trainer = fit(tmp_path, estimator, top_k=top_k)
    steps, values = model.curve()
    assert steps.tolist() == [20, 40, 60]  # of validation, of which the check at the start is none
    assert values[-1] < 4.2  # where characters that are drawn by how often they come take 4.6
    found = trainer.callback_metrics
    assert values[-1].item() == pytest.approx(found["val/bits"].item())
    assert 0.3 < found["val/load_entropy"] <= math.log(4) + 1e-6
    assert ("val/router_cosine" in found) == (top_k == 1)
    assert len(model.texts()["sample"]) > 100
    assert set(model.figures()) == {"experts"}
    rows = model.summary()
    assert rows["bits a character"] == f"{values[-1].item():.3f}"
    assert "a text of its own" in rows


def test_other_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match="needs data that are text, such as --data Text; given Digits"):
        fit(tmp_path, "ReinMax", data=Digits())


def test_every_run_of_the_packaged_comparison_can_be_made():
    comparison = read("compare/moe_text")
    places = [(run, setting) for run in comparison.runs for setting in run.parts()]
    previews = Previews()
    models = [previews.make(comparison.configuration(run, 1, setting)["model"]) for run, setting in places]
    assert len(models) == 15
    assert [model.top_k for model in models] == [int(setting[-1]) for _, setting in places]
    assert {type(model.estimator).__name__ for model in models} >= {"TopKGate", "DenseMixer", "SparseMixerV2Star"}


@pytest.mark.long
def test_a_comparison_counts_outputs_of_experts_and_resumes(tmp_path):
    content = yaml.safe_load(find("compare/moe_text").read_text())
    small = {"trainer.max_epochs": 2, "trainer.limit_train_batches": 2, "trainer.limit_val_batches": 1}
    content["change"] = {**small, "trainer.limit_test_batches": 1, "model.init_args.layers": 1}
    content["runs"] = [run for run in content["runs"] if run["name"] in ("TopKGate", "ReinMax", "LeaveOneOut(2)")]
    content["seeds"] = [1]
    file = tmp_path / "few.yaml"
    file.write_text(yaml.safe_dump(content))
    folder = compare(str(file), tmp_path / "out", settings=["top-1"], workers=1)
    with (folder / "results.csv").open() as lines:
        found = {row["run"]: row for row in csv.DictReader(lines)}
    one = 4 * 16 * 128  # steps, passages, characters
    wanted = {"TopKGate": one, "ReinMax": 8 * one, "LeaveOneOut(2)": 2 * one}
    assert {run: float(row["evaluations"]) for run, row in found.items()} == wanted
    assert all(float(row["last"]) == pytest.approx(float(row["val/bits"]), abs=1e-5) for row in found.values())
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.pt")}
    compare(str(file), folder, settings=["top-1"], workers=1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.pt")} == before


SMALL = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=1"]
SMALL += ["--trainer.limit_test_batches=1", "--trainer.enable_progress_bar=false", "--model.layers=2"]


@pytest.mark.long
@pytest.mark.parametrize("estimator", ["TopKGate", "LeaveOneOut", "SparseMixerV2Star", "ReinMax"])
def test_a_run_by_the_command_line_shows_a_text_and_is_diagnosed(estimator, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["fit", "--config=moe_text", f"--model.estimator={estimator}", *SMALL])
    printed = capsys.readouterr().out
    assert "a text of its own" in printed
    assert "cosine to the router's exact gradient" in printed
    (checkpoint,) = Path("lightning_logs").rglob("last.ckpt")
    found = EventAccumulator(str(checkpoint.parents[1])).Reload()
    assert "visual/sample/text_summary" in found.Tags()["tensors"]
    assert "visual/experts" in found.Tags()["images"]
    words = ["--estimators=LeaveOneOut", "--estimators=ReinMax", "--draws=300"]
    main(["diagnose", f"--ckpt_path={checkpoint}", *words])
    assert "exact: every one of 8 ** 1 = 8 states" in " ".join(capsys.readouterr().out.split())
    main(["sample", f"--ckpt_path={checkpoint}", "--count=2", "--output=two.txt"])
    assert "2 texts are in two.txt" in capsys.readouterr().out
    assert len(Path("two.txt").read_text()) > 300
    main(["predict", f"--ckpt_path={checkpoint}", "--trainer.limit_predict_batches=1"])
    (path,) = Path().rglob("predictions.pt")
    (batch,) = torch.load(path, weights_only=True)
    assert batch["experts"].shape == (16, 128, 2, 1)
