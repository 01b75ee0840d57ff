"""The world model: data against the published equations, gradients against enumeration, and what a run shows."""

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
from ils_lightning.compare.training.previews import Previews
from ils_lightning.data import CartPole, Digits
from ils_lightning.data.cart_pole import is_over, pushed, record
from ils_lightning.data.episodes import Episodes
from ils_lightning.estimators import Grouped, ILSNewton, LeaveOneOut, ReinMax
from ils_lightning.estimators.replacing import replacing_draws
from ils_lightning.functional import unimix
from ils_lightning.modules import WorldModel
from ils_lightning.modules.world_paths import Parts, kl
from ils_lightning.networks.state_space import Decoded
from ils_lightning.packaged import find

SMALL = {"latents": 2, "categories": 3, "recurrent": 6, "hidden": 8, "context": 4, "horizon": 5}


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def small(estimator="ReinMax", **options):
    torch.manual_seed(1)
    model = WorldModel(estimator, size=[4, 2], **{**SMALL, **options}).double()
    model.log_training = lambda *_, **__: None  # there is no Trainer to log to
    return model


def episodes(sequences=3, length=10, seed=0):
    return Episodes(
        *(part.double() if part.is_floating_point() else part for part in record(sequences, length, noise(seed)))
    )


def test_the_cart_moves_as_it_does_in_gymnasium():
    """Places and angles of CartPole-v1 in gymnasium 1.4.0 after 2, 6, 10, 14 and 18 pushes from the same state."""
    state, seen, over = torch.tensor([0.1, -0.2, 0.15, 0.3], dtype=torch.float64), [], []
    for action in (1, 1, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0):
        state = pushed(state, torch.tensor(action))
        seen.append(state[[0, 2]])
        over.append(bool(is_over(state)))
    wanted = torch.tensor(
        [[0.095854, 0.157163], [0.110414, 0.148496], [0.13988, 0.131867], [0.137559, 0.175216], [0.095609, 0.292459]],
        dtype=torch.float64,
    )
    torch.testing.assert_close(torch.stack(seen)[1::4], wanted, atol=1e-6, rtol=0)
    assert over.index(True) == 15  # the first state in which an episode ends


def test_at_rest_a_push_gives_the_accelerations_of_the_equations():
    """At x = theta = 0: theta'' = -(F/M) / (l (4/3 - m/M)), x'' = F/M - m l theta''/M, with M = 1.1, m = .1, l = .5."""
    turned = -(10 / 1.1) / (0.5 * (4 / 3 - 0.1 / 1.1))
    wanted = torch.tensor([0, (10 / 1.1 - 0.1 * 0.5 * turned / 1.1) * 0.02, 0, turned * 0.02])
    torch.testing.assert_close(pushed(torch.zeros(4), torch.tensor(1)), wanted)
    torch.testing.assert_close(pushed(torch.zeros(4), torch.tensor(0)), -wanted)


def test_sequences_are_episodes_that_follow_each_other():
    found = record(400, 60, noise())
    over = found.goes_on == 0
    assert found.first[:, 0].all()
    assert torch.equal(found.first[:, 1:], over[:, :-1])
    assert torch.equal(over, is_over(found.observation))
    assert found.observation[found.first].abs().max() <= 0.05
    assert (found.reward == 1).all()
    assert (found.action[found.first] == 0).all()
    moved = pushed(found.observation[:, :-1], found.action[:, 1:])
    same = ~found.first[:, 1:]
    torch.testing.assert_close(moved[same], found.observation[:, 1:][same])
    pushes = found.action[~found.first].double()
    assert abs(pushes.mean() - 0.5) < 4 * 0.5 / math.sqrt(len(pushes))
    assert 18 < len(over.flatten()) / over.sum() < 28  # 22 steps of an episode, and those that were cut


def test_data_are_a_function_of_the_seed_and_in_deviations_of_what_is_learnt_from():
    a, b, c = (CartPole(train=50, validation=5, test=7, seed=seed).splits for seed in (0, 0, 1))
    assert torch.equal(a.train.episodes.observation, b.train.episodes.observation)
    assert not torch.equal(a.test.episodes.observation, c.test.episodes.observation)
    steps = a.train.episodes.observation.flatten(0, 1)
    torch.testing.assert_close(steps.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(steps.std(0), torch.ones(4))
    assert [len(part) for part in a] == [50, 5, 7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 0}, "CartPole: train must be at least 1; given 0$"),
        ({"length": 1}, "CartPole: length must be at least 2; given 1$"),
        ({"batch_size": 0}, "batch_size must be at least 1; given 0"),
    ],
)
def test_bad_sizes_of_data_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CartPole(**options)


def gradient_by_enumeration(model, batch):
    """Gradient to the last layer of q of the expected objective, KL terms uncut, over every path of draws."""
    length, each = batch.action.shape[1], model.categories**model.latents
    total = 0.0
    for path in itertools.product(range(each), repeat=length):
        drawn, log_p = iter(path), []

        def draw(_, logits, drawn=drawn, log_p=log_p):
            code = next(drawn)
            codes = torch.tensor([code // model.categories**place % model.categories for place in range(model.latents)])
            z = functional.one_hot(codes, model.categories).to(logits).expand_as(logits)
            log_p.append((z * logits.log_softmax(-1)).sum())
            return z

        with replacing_draws(draw):
            found = model(batch)
        parts = model.parts(found, model.prior(found.h), batch)
        total = total + torch.stack(log_p).sum().exp() * model.objective(parts, parts.kl, parts.kl).mean()
    return torch.autograd.grad(total, model.networks.last.weight)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "biased"), [("ReinMax", False), ("StraightThrough", True)])
def test_a_draw_gets_the_slope_of_all_that_follows(estimator, biased):
    """Two steps of one latent of two categories; the loss is nearly quadratic in each draw, where ReinMax has no bias.

    With equal weights the two KL terms have the gradient of one function.
    """
    options = {"latents": 1, "categories": 2, "dynamics": 0.5, "representation": 0.5, "free_nats": 0.0}
    model = small(estimator, **options, deviation=0.5, unimix=0.05)
    with torch.no_grad():  # so that the decoder is nearly linear
        for weight in (*model.networks.decoder.parameters(), *model.networks.answers.parameters()):
            weight.mul_(0.5)
    batch = episodes(1, 2)
    batch = batch._replace(observation=torch.tensor([[[1.0, -1.0, 0.5, 1.0], [-1.0, 1.0, 1.0, -0.5]]]).double())
    wanted = gradient_by_enumeration(model.eval(), batch)
    model.train()
    many = Episodes(*(part.expand(4000, *part.shape[1:]) for part in batch))
    found = []
    for _ in range(12):
        path = model(many)
        parts = model.parts(path, model.prior(path.h), many)
        loss = model.objective(parts, parts.kl, parts.kl).mean()
        found.append(torch.autograd.grad(loss, model.networks.last.weight)[0])
    error = (torch.stack(found).mean(0) - wanted).norm() / wanted.norm()
    assert (error > 0.06) == biased  # .03 and .11, with a noise of .004; .68 where a draw is cut from later steps


def test_nothing_of_an_episode_is_known_in_the_next():
    model, batch = small().eval(), episodes(2, 12)
    first = batch.first.clone()
    first[:, 6] = True
    batch = batch._replace(first=first)
    other = batch._replace(observation=torch.cat([batch.observation[:, :6] + 1, batch.observation[:, 6:]], dim=1))

    def mode(_, logits):
        return functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits)

    with replacing_draws(mode):
        a, b = model(batch), model(other)
    torch.testing.assert_close(a.logits[:, 6:], b.logits[:, 6:])
    assert (a.logits[:, :6] - b.logits[:, :6]).abs().max() > 1e-3


def test_what_is_minimised_is_as_published():
    """Free nats on each term; the weights say how much of its gradient p and q get."""
    model, batch = small(dynamics=2.0, representation=0.5, free_nats=0.3), episodes()
    path = model(batch)
    parts = model.parts(path, model.prior(path.h), batch)
    q, p = path.logits.log_softmax(-1), model.prior(path.h).log_softmax(-1)
    wanted = (q.exp() * (q - p)).sum((-1, -2))
    torch.testing.assert_close(parts.kl, wanted)
    found = model.objective(parts, parts.kl, parts.kl)
    torch.testing.assert_close(
        found - parts.reconstruction - parts.continuation - parts.reward, 2.5 * wanted.clamp(min=0.3)
    )
    torch.testing.assert_close(model.prior(path.h), unimix(model.networks.prior(path.h), 0.01))
    assert path.logits.softmax(-1).min() >= 0.01 / 3

    logits = [torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    a, b = logits
    none = torch.zeros(5, dtype=torch.float64)
    whole = kl(a, b)
    to_a, to_b = torch.autograd.grad(whole[whole > 0.3].sum(), logits)
    cut = model.objective(Parts(none, none, none, none), kl(a.detach(), b), kl(a, b.detach())).sum()
    torch.testing.assert_close(torch.autograd.grad(cut, logits), (0.5 * to_a, 2.0 * to_b))


def test_the_likelihood_is_a_normal_density_and_two_coins():
    model, batch = small(deviation=0.3), episodes()
    path = model.eval()(batch)
    batch = batch._replace(reward=batch.action.double())  # of either kind
    told = model.networks.decode(path.h, path.z)
    parts = model.parts(path, model.prior(path.h), batch)
    wanted = -torch.distributions.Normal(told.observation, 0.3).log_prob(batch.observation).sum(-1)
    torch.testing.assert_close(parts.reconstruction, wanted)
    for logits, fell, nats in (
        (told.goes_on, batch.goes_on, parts.continuation),
        (told.reward, batch.reward, parts.reward),
    ):
        torch.testing.assert_close(nats, -torch.distributions.Bernoulli(logits=logits).log_prob(fell))


def test_problem_is_that_of_a_draw_given_the_rest():
    """At the draws that fell, f is what a path of these draws costs from there on; rows do not mix."""
    model, batch = small().eval(), episodes(3, 8)
    torch.manual_seed(3)
    logits, f, estimator = model.problem(batch)
    torch.manual_seed(3)
    path = model(batch)
    parts = model.parts(path, model.prior(path.h), batch)
    objective = model.objective(parts, parts.kl, parts.kl)
    torch.testing.assert_close(f(path.z[:, 4].unsqueeze(0))[0], objective[:, 4:].sum(1))
    torch.testing.assert_close(logits, path.logits[:, 4])
    assert estimator is model.estimator
    z = torch.eye(3, dtype=torch.float64)[torch.randint(3, (2, 3, 2))]
    moved = z.clone()
    moved[:, 0] = moved[:, 0].roll(1, -1)
    torch.testing.assert_close(f(z)[:, 1:], f(moved)[:, 1:])
    assert (f(z)[:, 0] - f(moved)[:, 0]).abs().min() > 1e-6


def test_imagination_needs_no_observation_and_follows_the_actions():
    model, batch = small().eval(), episodes(64, 12)
    path = model(batch)
    start = path.h[:, 3], path.z[:, 3]
    torch.manual_seed(0)
    a = model.imagine(*start, batch.action[:, 4:9])
    torch.manual_seed(0)
    b = model.imagine(*start, 1 - batch.action[:, 4:9])
    assert a[0].shape == (64, 5, 6)
    assert a[1].sum(-1).eq(1).all()
    assert (a[0] - b[0]).abs().amax(dim=(1, 2)).min() > 1e-3


def test_the_error_of_imagination_counts_the_steps_of_an_episode_only():
    model, batch = small().eval(), episodes(4, 10)
    first = torch.zeros(4, 10, dtype=torch.bool)
    first[:, 0] = True
    first[1, 5] = True  # the second of the five imagined steps
    first[2, 4] = True
    none = torch.zeros(4, 5)
    model._imagined = lambda path, given: Decoded(
        model._ahead(given.observation) + torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None], none, none
    )
    model.measure(batch._replace(first=first))
    wanted = (5 * 1 + 1 * 4 + 0 * 9 + 5 * 16) / 11
    assert float(model.metrics["open_loop_error"].compute()) == pytest.approx(wanted)


def test_what_is_wrong_of_ends_and_rewards_is_counted():
    model, batch = small().eval(), episodes(4, 10)
    always, never = torch.full((4, 10), 1.0).double(), torch.full((4, 10), -1.0).double()
    decode = model.networks.decode
    model.networks.decode = lambda h, z: decode(h, z)._replace(
        goes_on=always[:, : h.shape[1]], reward=never[:, : h.shape[1]]
    )
    reward, goes_on = torch.zeros(4, 10).double(), torch.ones(4, 10).double()
    reward[0, :3], goes_on[1, 4:5] = 1, 0
    model.measure(batch._replace(reward=reward, goes_on=goes_on))
    assert float(model.metrics["wrong_rewards"].compute()) == pytest.approx(3 / 40)
    assert float(model.metrics["wrong_ends"].compute()) == pytest.approx(1 / 40)


def test_weights_from_before_rewards_were_predicted_are_refused_in_one_line():
    model = small()
    older = {name: value for name, value in model.state_dict().items() if "networks.reward" not in name}
    with pytest.raises(ValueError, match=r'not those of this WorldModel.*Missing key.*"networks.reward.weight"'):
        model.load_state_dict(older)


def test_each_step_may_have_an_estimator_of_its_own():
    model = small(Grouped(ILSNewton(), groups=6))
    model.training_step(episodes(8, 6)).backward()
    states = [one.P for one in model.estimator.estimators]
    assert all(state.abs().sum() > 0 for state in states)
    assert not torch.equal(states[0], states[1])
    with pytest.raises(ValueError, match="a group for each of the 7 steps of a sequence; given 6"):
        model(episodes(8, 7))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latents": 0}, "WorldModel: latents must be at least 1; given 0$"),
        ({"categories": 1}, "WorldModel: categories must be at least 2; given 1$"),
        ({"deviation": 0.0}, "WorldModel: deviation must be above 0 and finite; given 0.0$"),
        ({"unimix": 1.0}, r"unimix must be in \[0, 1\); given 1.0$"),
        ({"dynamics": -1.0}, "WorldModel: dynamics must be at least 0; given -1.0$"),
        ({"estimator": "GumbelSoftmax"}, "does not make such draws"),
        ({"estimator": LeaveOneOut()}, "LeaveOneOut has no draw that can be differentiated"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def fit(folder, estimator, data=None, **options):
    seed_everything(0, verbose=False)
    trainer = quiet_trainer(folder, max_epochs=3)
    sizes = {"latents": 4, "categories": 4, "recurrent": 16, "hidden": 32, "context": 4, "horizon": 6}
    model = WorldModel(estimator, optimizer=lambda p: torch.optim.Adam(p, lr=0.01), **{**sizes, **options})
    trainer.fit(model, datamodule=data or CartPole(train=640, validation=64, test=64, length=12))
    return model, trainer


@pytest.mark.long
@pytest.mark.parametrize("estimator", ["StraightThrough", "ReinMax", ILSNewton(every=8), Grouped(ReinMax(), 12)])
def test_every_kind_of_estimator_learns_a_world(estimator, tmp_path):
    model, trainer = fit(tmp_path, estimator)
    steps, values = model.curve()
    assert steps.tolist() == [20, 40, 60]
    found = trainer.callback_metrics
    assert values[-1] < values[0] / 3
    assert found["val/open_loop_error"] < 1.0  # which a guess of the mean has
    assert set(model.figures()) == {"imagined"}
    assert model.summary()["KL of a step"] == f"{float(found['val/kl']):.3f} nats"


def test_other_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"needs data that are episodes, such as --data CartPole.* given Digits"):
        fit(tmp_path, "ReinMax", data=Digits())


def test_data_that_are_too_short_to_imagine_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"context \+ horizon = 23 steps; these have 12"):
        fit(tmp_path, "ReinMax", context=8, horizon=15)


def test_every_run_of_the_packaged_comparison_can_be_made():
    comparison = read("compare/world_model")
    previews = Previews()
    parts = [(run, setting) for run in comparison.runs for setting in run.parts()]
    models = [previews.make(comparison.configuration(run, 1, setting)["model"]) for run, setting in parts]
    assert [type(model.estimator).__name__ for model in models] == [run.name.split("(")[0] for run, _ in parts]
    assert {(model.latents, model.categories) for model in models} == {(8, 8), (32, 16)}


FEW = {"trainer.max_epochs": 1, "trainer.limit_train_batches": 2, "trainer.limit_val_batches": 1}


@pytest.mark.long
def test_a_comparison_resumes(tmp_path):
    content = yaml.safe_load(find("compare/world_model").read_text())
    content["change"] = {**FEW, "trainer.limit_test_batches": 1}
    content["runs"] = [run for run in content["runs"] if run["name"] in ("StraightThrough", "ILSNewton")]
    content["seeds"] = [1]
    content["settings"]["levels"] = content["settings"]["levels"][:1]
    del content["tune"]
    file = tmp_path / "few.yaml"
    file.write_text(yaml.safe_dump(content))
    folder = compare(str(file), tmp_path / "out", workers=1)
    with (folder / "results.csv").open() as lines:
        found = {row["run"]: row for row in csv.DictReader(lines)}
    assert all(math.isfinite(float(row["test/open_loop_error"])) for row in found.values())
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.pt")}
    assert len(before) == 2
    compare(str(file), folder, workers=1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.pt")} == before


@pytest.mark.long
def test_a_run_by_the_command_line_shows_an_imagined_episode_and_is_diagnosed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = [f"--{key}={value}" for key, value in FEW.items()]
    main(["fit", "--config=world_model", *few, "--trainer.limit_test_batches=1", "--model.latents=3"])
    assert "squared error, imagined 15 steps" in capsys.readouterr().out
    (checkpoint,) = Path("lightning_logs").rglob("last.ckpt")
    found = EventAccumulator(str(checkpoint.parents[1])).Reload()
    assert "visual/imagined" in found.Tags()["images"]
    words = ["--estimators=ReinMax", "--draws=100", "--rows=8"]
    main(["diagnose", f"--ckpt_path={checkpoint}", *words])
    assert "exact: every one of 8 ** 3 = 512 states" in " ".join(capsys.readouterr().out.split())
    main(["predict", f"--ckpt_path={checkpoint}", "--trainer.limit_predict_batches=1"])
    (path,) = Path().rglob("predictions.pt")
    (batch,) = torch.load(path, weights_only=True)
    assert batch["codes"].shape == (32, 24, 3)
