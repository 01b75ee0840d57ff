"""Neural relational inference: springs by another integrator, networks by loops over particles, runs."""

import csv
import math
from itertools import combinations
from pathlib import Path

import pytest
import torch
import yaml
from lightning import seed_everything
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Generator
from trainers import quiet_trainer

from ils_lightning.cli import main
from ils_lightning.compare import compare
from ils_lightning.data import Digits, Springs
from ils_lightning.data.spring_simulation import directed_edges, random_graphs, simulate, starts
from ils_lightning.estimators import Exact, GumbelSoftmax, LeaveOneOut, Vimco
from ils_lightning.modules import RelationalInference, UndirectedRelationalInference
from ils_lightning.networks.relations import InteractionDecoder
from ils_lightning.packaged import find

SMALL = {"train": 64, "validation": 32, "test": 32, "points": 9, "later": 4}
SHAPE = [4, 9, 4]


def seeded(number):
    return Generator().manual_seed(number)


def energy(values, adjacency):
    """Kinetic energy and that of springs, by loops over pairs."""
    x, v = values[..., :2], values[..., 2:]
    total = 0.5 * v.square().sum(dim=(-1, 1))
    for i in range(x.shape[1]):
        for j in range(i):
            total = total + 0.05 * adjacency[:, i, j, None] * (x[:, i] - x[:, j]).square().sum(dim=-1)
    return total


def test_two_particles_on_a_spring_swing_as_the_closed_form_says():
    """Their difference obeys d'' = -2 k d, k = 0.1, and their middle moves on at constant speed."""
    position = torch.tensor([[[0.5, 0.0], [-0.5, 0.2]]], dtype=torch.float64)
    velocity = torch.tensor([[[0.0, 0.3], [0.1, -0.2]]], dtype=torch.float64)
    pair = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    found = simulate(pair, position, velocity, points=41, every=10, step=0.001)
    time, omega = torch.arange(41, dtype=torch.float64).unsqueeze(-1) * 0.01, math.sqrt(0.2)
    apart, speed = position[0, 0] - position[0, 1], velocity[0, 0] - velocity[0, 1]
    wanted = apart * (omega * time).cos() + speed / omega * (omega * time).sin()
    torch.testing.assert_close(found[0, 0, :, :2] - found[0, 1, :, :2], wanted, rtol=0, atol=1e-4)
    middle = position[0].mean(0) + time * velocity[0].mean(0)
    torch.testing.assert_close(found[0, :, :, :2].mean(0), middle)


def test_steps_are_short_enough_walls_hold_and_energy_stays():
    adjacency = random_graphs(200, 5, seeded(0))
    begin = starts(200, 5, seeded(1))
    found = simulate(adjacency, *begin, points=50, every=20)
    finer = simulate(adjacency, *begin, points=50, every=200, step=0.001)
    assert (found - finer)[..., :2].abs().amax() < 0.01
    assert found[..., :2].abs().amax() <= 5
    assert found[..., :2].abs().amax() > 4.9  # some met a wall
    spent = energy(found, adjacency)
    inside = (found[..., :2].abs() < 4.8).flatten(1).all(dim=1)
    assert inside.sum() > 20
    torch.testing.assert_close(spent[inside], spent[inside, :1].expand_as(spent[inside]), rtol=0.01, atol=0)


def test_starts_and_graphs_are_as_published():
    adjacency = random_graphs(4000, 4, seeded(0))
    assert torch.equal(adjacency, adjacency.mT)
    assert torch.equal(adjacency.diagonal(dim1=-2, dim2=-1), torch.zeros(4000, 4).double())
    joined = adjacency[:, *torch.triu_indices(4, 4, 1)]
    assert abs(joined.mean() - 0.5) < 5 * 0.5 / math.sqrt(joined.numel())
    position, velocity = starts(4000, 4, seeded(1))
    assert position.std().item() == pytest.approx(0.5, rel=0.02)
    torch.testing.assert_close(velocity.norm(dim=-1), torch.full((4000, 4), 0.5).double())


def test_data_are_scaled_by_what_is_learnt_from_and_a_function_of_the_seed():
    first, again, other = (Springs(**SMALL, seed=seed).splits for seed in (1, 1, 2))
    assert torch.equal(first.train.values, again.train.values)
    assert not torch.equal(first.train.values, other.train.values)
    sizes = first.train.values.abs()
    assert sizes[..., :2].amax() == sizes[..., 2:].amax() == 1
    batch = first.test.batch(slice(0, 5))
    assert [list(part.shape) for part in batch] == [[5, 4, 9, 4], [5, 4, 4, 4], [5, 12]]
    there, back = directed_edges(4)
    order = {(int(i), int(j)): e for e, (i, j) in enumerate(zip(there, back, strict=True))}
    for (i, j), e in order.items():
        assert torch.equal(batch.edges[:, e], batch.edges[:, order[j, i]])


def moved(decoder, state, spring):
    """The next states of one simulation `[particles, 4]` by loops; spring `[particles, particles]`, receiver first."""
    found = []
    for i in range(len(state)):
        received = 0.0
        for j in range(len(state)):
            if i != j:
                first = torch.relu(decoder.of_sender(state[j]) + decoder.of_receiver(state[i]))
                received = received + spring[i, j] * torch.relu(decoder.message(first))
        found.append(state[i] + decoder.move(torch.cat([state[i], received])))
    return torch.stack(found)


def test_the_decoder_is_the_interaction_network_that_its_formula_says():
    torch.manual_seed(0)
    decoder, x = InteractionDecoder(3, 5).double(), torch.randn(2, 3, 8, 4).double()
    spring = torch.rand(2, 6).double()
    found = decoder.predict(x, spring, steps=3)
    for row in range(2):
        matrix = torch.zeros(3, 3).double()
        matrix[directed_edges(3)] = spring[row]
        for point in range(1, 8):
            if (point - 1) % 3 == 0:
                state = x[row, :, point - 1]
            state = moved(decoder, state, matrix)
            torch.testing.assert_close(found[row, :, point - 1], state)
    torch.testing.assert_close(decoder.rollout(x[:, :, :1], spring, 3), found[:, :, :3])


@pytest.mark.parametrize("kind", [RelationalInference, UndirectedRelationalInference])
def test_the_encoder_follows_a_permutation_of_the_particles(kind):
    """Logits of the edge i <- j of exchanged particles are those of the edge that it was."""
    torch.manual_seed(0)
    model = kind("ReinMax", trajectory_shape=SHAPE).double().eval()
    x, order = torch.randn(3, 4, 9, 4).double(), torch.tensor([2, 0, 3, 1])
    before, after = (model.to_directions(model.logits(one)[..., 1]) for one in (x, x[:, order]))
    matrices = [torch.zeros(3, 4, 4).double() for _ in range(2)]
    for matrix, logits in zip(matrices, (before, after), strict=True):
        matrix[:, *directed_edges(4)] = logits.detach()
    torch.testing.assert_close(matrices[1], matrices[0][:, order][:, :, order])
    assert torch.equal(matrices[0], matrices[0].mT) == (kind is UndirectedRelationalInference)


def test_one_type_for_both_directions_is_the_published_loss_of_symmetric_graphs():
    torch.manual_seed(0)
    both = RelationalInference("ReinMax", trajectory_shape=SHAPE).eval()
    one = UndirectedRelationalInference("ReinMax", trajectory_shape=SHAPE).eval()
    one.load_state_dict(both.state_dict())
    batch = Springs(**SMALL).splits.test.batch(slice(0, 6))
    logits, f, _ = one.problem(batch)
    assert logits.shape == (6, 6, 2)
    z = torch.eye(2)[torch.randint(2, (3, 6, 6), generator=seeded(0))]
    directed = torch.stack([1 - one.springs(z), one.springs(z)], dim=-1)
    torch.testing.assert_close(f(z), both.problem(batch).loss(directed))
    wanted = both.problem(batch).logits
    there, back = directed_edges(4)
    for place, (i, j) in enumerate(combinations(range(4), 2)):
        pair = wanted[:, ((there == i) & (back == j)) | ((there == j) & (back == i))].mean(dim=1)
        torch.testing.assert_close(logits[:, place], pair)


def test_rows_do_not_mix_and_a_loss_is_that_of_a_normal_density():
    torch.manual_seed(0)
    model = RelationalInference("ReinMax", trajectory_shape=SHAPE, variance=0.02).eval()
    batch = Springs(**SMALL).splits.test.batch(slice(0, 6))
    f = model.problem(batch).loss
    z = torch.eye(2)[torch.randint(2, (1, 6, 12), generator=seeded(0))]
    predicted = model.decoder.predict(batch.x, z[0, ..., 1], model.steps)
    density = torch.distributions.Normal(predicted, math.sqrt(0.02))
    wanted = -(density.log_prob(batch.x[:, :, 1:]) - density.log_prob(predicted)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(f(z)[0], wanted)
    other = z.clone()
    other[:, 1:] = 1 - other[:, 1:]
    torch.testing.assert_close(f(other)[0, 0], f(z)[0, 0])
    assert (f(other)[0, 1:] != f(z)[0, 1:]).all()


@pytest.mark.parametrize(("estimator", "biased"), [(LeaveOneOut(4), False), (GumbelSoftmax(0.5), True)])
def test_unbiased_estimates_average_to_the_exact_gradient_of_4096_graphs(estimator, biased):
    torch.manual_seed(1)
    model = RelationalInference("ReinMax", decoder_units=4, variance=0.05, trajectory_shape=SHAPE).double().eval()
    one = Springs(**SMALL).splits.test.batch(slice(0, 1))
    one = one._replace(x=one.x.double())
    _, wanted = Exact().estimate(*model.problem(one)[:2])
    logits, f, _ = model.problem(one._replace(x=one.x.expand(4000, -1, -1, -1)))
    leaf = logits.detach().requires_grad_()
    (found,) = torch.autograd.grad(estimator(leaf, f).sum(), leaf)
    score = (found.mean(0) - wanted[0]) / (found.std(0) / math.sqrt(len(found)))
    assert (score.abs().max() > 5) == biased


def test_the_kl_term_weighs_what_it_is_told_and_the_logs_have_the_bound():
    model = RelationalInference("StraightThrough", trajectory_shape=SHAPE, kl_start=21.0, kl_fall=20).double().eval()
    assert [model.kl_weight(step) for step in (0, 5, 20, 99)] == [21.0, 16.0, 1.0, 1.0]
    logged = []
    model.log_training = lambda values, **_: logged.append(values)
    batch = Springs(**SMALL).splits.test.batch(slice(0, 8))
    batch = batch._replace(x=batch.x.double())
    loss = model.training_step(batch)
    kl = model.prior.kl(model.estimator.distribution(model.logits(batch.x))).sum(dim=-1)
    torch.testing.assert_close(loss, (logged[0] + 20 * kl).mean())


@pytest.mark.parametrize("estimator", [Vimco(3), GumbelSoftmax(0.5), Exact(), "DisArmTree"])
def test_every_kind_of_estimator_trains(estimator, tmp_path):
    model, trainer = fit(tmp_path, UndirectedRelationalInference(estimator, encoder_units=8, decoder_units=8))
    _, values = model.curve()
    assert values[-1] < values[0]
    assert all(torch.isfinite(value).all() for value in trainer.callback_metrics.values())


def fit(folder, model, data=None, epochs=3, **options):
    seed_everything(0, verbose=False)
    trainer = quiet_trainer(folder, max_epochs=epochs, **options)
    trainer.fit(model, datamodule=data or Springs(**SMALL))
    return model, trainer


@pytest.mark.long
def test_the_graph_is_found(tmp_path):
    """600 steps on larger data: chance would have half the edges wrong."""
    data = Springs(train=6_400, validation=200, test=100)
    model, trainer = fit(tmp_path, UndirectedRelationalInference(GumbelSoftmax(0.5)), data)
    found = trainer.callback_metrics
    assert found["val/wrong_edges"] < 0.25
    assert found["val/rollout_error"] < 0.02
    assert set(model.figures()) == {"graphs"}
    assert model.summary()["validation wrong edges"] == f"{found['val/wrong_edges']:.1%}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, ": steps must be at least 1; given 0$"),
        ({"variance": 0.0}, "variance must be greater than 0 and finite; given 0.0"),
        ({"kl_start": -1.0}, ": kl_start must be at least 0; given -1.0$"),
        ({"kl_start": 9.0, "kl_fall": 0}, ": kl_fall must be at least 1; given 0$"),
        ({"kl_start": 9.0, "estimator": "Vimco"}, "Vimco minimises a bound of its own.*kl_start must be 1; given 9.0"),
        ({"trajectory_shape": [1, 9, 4]}, r"at least 2 particles and 2 points.*given .* = \[1, 9, 4\]"),
        ({"trajectory_shape": [4, 9, 3]}, r"of 4 values: position and velocity in a plane; given .* = \[4, 9, 3\]"),
        ({"trajectory_shape": [4, 9]}, "trajectory_shape must be 3 whole numbers"),
        ({"estimator": {"class_path": "TopKSubset", "init_args": {"size": 2}}}, "needs draws of one category"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RelationalInference(**{"estimator": "ReinMax", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"particles": 1}, "Springs: particles must be at least 2; given 1$"),
        ({"later": 0}, "Springs: later must be at least 1; given 0$"),
        ({"test": 0}, "Springs: test must be at least 1; given 0$"),
        ({"batch_size": 0}, "batch_size must be at least 1; given 0"),
    ],
)
def test_bad_data_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Springs(**options)


def test_other_data_and_other_numbers_of_particles_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"needs data that are trajectories, such as --data Springs.*given Digits"):
        fit(tmp_path, RelationalInference("ReinMax"), Digits())
    model = RelationalInference("ReinMax", trajectory_shape=SHAPE)
    with pytest.raises(ValueError, match=r"= \[4, 9, 4\]; these are \[5, 9, 4\]"):
        fit(tmp_path, model, Springs(**{**SMALL, "particles": 5}))
    with pytest.raises(ValueError, match=r"= \[4, 9, 4\]; these are \[3, 9, 4\]"):
        model.logits(torch.randn(2, 3, 9, 4))


@pytest.mark.long
def test_a_run_by_the_command_line_shows_graphs_and_is_diagnosed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--data.train=320", "--data.validation=32"]
    main(["fit", "--config=relational", *few, "--data.test=32"])
    assert "wrong edges" in capsys.readouterr().out
    (checkpoint,) = Path("lightning_logs").rglob("last.ckpt")
    assert list(checkpoint.parents[1].rglob("graphs.png"))
    found = EventAccumulator(str(checkpoint.parents[1])).Reload()
    assert "visual/graphs" in found.Tags()["images"]
    tags = {tag.removeprefix("RelationalInference-") for tag in found.Tags()["scalars"]}
    assert {"val/wrong_edges", "val/rollout_error", "test/loss"} <= tags
    words = ["--estimators=LeaveOneOut", "--estimators=ReinMax", "--draws=200", "--rows=2"]
    main(["diagnose", f"--ckpt_path={checkpoint}", *words])
    assert "exact: every one of 2 ** 12 = 4,096 states" in " ".join(capsys.readouterr().out.split())
    main(["predict", f"--ckpt_path={checkpoint}", "--trainer.limit_predict_batches=1"])
    (path,) = Path().rglob("predictions.pt")
    (batch,) = torch.load(path, weights_only=True)
    assert batch["edges"].shape == (32, 12)
    with pytest.raises(SystemExit):
        main(["test", f"--ckpt_path={checkpoint}", "--data=Springs", "--data.particles=5"])
    assert "these are [5, 25, 4]" in " ".join(capsys.readouterr().err.split())


@pytest.mark.long
def test_the_packaged_comparison_runs_and_resumes(tmp_path):
    content = yaml.safe_load(find("compare/relational").read_text())
    small = {"data.init_args.train": 64, "data.init_args.validation": 32, "data.init_args.test": 32}
    content["change"] = {**small, "trainer.max_epochs": 1, "data.init_args.points": 9}
    content["seeds"] = [1]
    file = tmp_path / "few.yaml"
    file.write_text(yaml.safe_dump(content))
    folder = compare(str(file), tmp_path / "out", workers=1)
    with (folder / "results.csv").open() as lines:
        found = list(csv.DictReader(lines))
    assert [sum(row["setting"] == setting for row in found) for setting in ("4 particles", "5 particles")] == [10, 13]
    evaluations = {row["run"]: float(row["evaluations"]) for row in found if row["setting"] == "4 particles"}
    assert evaluations["exact gradient"] == 64 * evaluations["GumbelSoftmax(0.5)"]
    assert all(0 <= float(row["test/wrong_edges"]) <= 1 for row in found)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.pt")}
    compare(str(file), folder, workers=1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.pt")} == before
