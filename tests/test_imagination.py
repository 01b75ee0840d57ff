"""The actor of imagination: returns by their definition, its gradient against enumeration, acting in the true world."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
from lightning import seed_everything
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional
from trainers import quiet_trainer

from ils_lightning.cli import main
from ils_lightning.data import CartPole, Digits, MiniGrid
from ils_lightning.data.cart_pole import is_over, pushed
from ils_lightning.estimators import DrGrpo, Grpo, MovingAverage, Reinforce
from ils_lightning.modules import ImaginationActor, WorldModel
from ils_lightning.modules.imagination_actor import _odds
from ils_lightning.modules.imagined_returns import worth
from ils_lightning.modules.world_paths import Path as WorldPath

WORLD = {"estimator": "ReinMax", "latents": 2, "categories": 3, "recurrent": 6, "hidden": 8, "size": [4, 2]}
FEW = {"train": 64, "validation": 8, "test": 8, "length": 24, "batch_size": 8}


def actor(estimator="LeaveOneOut", **options):
    torch.manual_seed(0)
    made = ImaginationActor(WORLD, estimator, **{"starts": 8, "horizon": 3, "hidden": 8, **options})
    made.log_training = lambda *_, **__: None  # there is no Trainer to log to
    return made


def batch(seed=0):
    return next(iter(CartPole(**FEW, seed=seed).train_dataloader()))


def test_returns_are_as_defined():
    """lambda-returns as a weighted mean of n-step returns, written out for three steps."""
    torch.manual_seed(0)
    reward, goes_on, values = torch.rand(3, 5), torch.rand(3, 5), torch.randn(4, 5)
    discount, trace = 0.9, 0.7
    kept = discount * goes_on

    def n_step(n):
        total, factor = torch.zeros(5), torch.ones(5)
        for step in range(n):
            total, factor = total + factor * reward[step], factor * kept[step]
        return total + factor * values[n]

    found = worth(reward, goes_on, values, discount, trace)
    wanted = (1 - trace) * (n_step(1) + trace * n_step(2)) + trace**2 * n_step(3)
    torch.testing.assert_close(found.returns[0], wanted)
    torch.testing.assert_close(found.weights, torch.stack([torch.ones(5), kept[0], kept[0] * kept[1]]))


def enumerated(model, h, z):
    """Gradient to the policy of minus the return, over all actions, without a critic."""
    total = torch.zeros(len(h))
    for actions in itertools.product(range(2), repeat=model.horizon):
        along, code, log_p, told = h, z, 0.0, []
        for action in actions:
            log_p = log_p + model.logits(along, code).squeeze(-2).log_softmax(-1)[:, action]
            along, code = model._next(along, code, torch.eye(2)[action].expand(len(h), 2))
            told.append(model.world.networks.decode(along, code))
        values = torch.zeros(model.horizon + 1, len(h))
        returns = worth(*_odds(told), values, model.discount, 1.0).returns[0]
        total = total - log_p.exp() * returns.detach()
    return torch.cat([one.flatten() for one in torch.autograd.grad(total.mean(), list(model.policy.parameters()))])


@pytest.mark.slow
@pytest.mark.parametrize("weighed", [True, False])
def test_the_policy_gets_the_gradient_of_the_expected_return(weighed, monkeypatch):
    """A world without chance, three steps and no critic: the mean of many estimates is the exact gradient.

    It is not where later steps are not weighed by how much of the path is left.
    """

    def likeliest(self, samples=None, generator=None):
        return functional.one_hot(self.logits.argmax(-1), self.logits.shape[-1]).to(self.logits)

    model = actor(discount=0.9, trace=1.0, entropy=0.0, samples=4000)
    with torch.no_grad():
        for one in (model.critic.layers[-1].weight, model.critic.layers[-1].bias):
            one.zero_()
        model.world.networks.answers.weight.mul_(8)  # so that going on depends on what was done
        model.world.networks.of_action.weight.mul_(3)
    h, z = torch.randn(1, 6), functional.one_hot(torch.tensor([[0, 2]]), 3).float()
    monkeypatch.setattr("ils_lightning.modules.imagination_actor.Categorical.draw", likeliest)
    monkeypatch.setattr(model, "_starts", lambda _: (h, z))
    if not weighed:
        monkeypatch.setattr("ils_lightning.modules.imagination_actor.worth", unweighed)
    wanted, found, given = enumerated(model, h, z), [], batch()
    for _ in range(20):
        loss = model.horizon * model.training_step(given)  # a mean over steps, where a return is a sum
        found.append(torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(model.policy.parameters()))]))
    error = (torch.stack(found).mean(0) - wanted).norm() / wanted.norm()
    assert (error < 0.1) == weighed


def unweighed(*given):
    found = worth(*given)
    return found._replace(weights=torch.ones_like(found.weights))


def test_nothing_of_the_world_model_changes_and_all_of_the_actor_does():
    model = actor()
    before = {name: value.clone() for name, value in model.world.state_dict().items()}
    model.training_step(batch()).backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in model.policy.parameters())
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in model.critic.parameters())
    optimizer = model.configure_optimizers()
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    assert held == {id(one) for part in (model.policy, model.critic) for one in part.parameters()}
    optimizer.step()
    after = model.world.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("estimator", [Reinforce(baseline=MovingAverage()), Grpo(), DrGrpo()], ids=str)
def test_other_score_functions_train_the_actor(estimator):
    model = actor(estimator)
    model.training_step(batch()).backward()
    assert sum(one.grad.abs().sum() for one in model.policy.parameters()) > 0


def test_paths_begin_where_an_episode_goes_on():
    model, given = actor(starts=500), batch()
    number = torch.arange(given.action.numel()).reshape(*given.action.shape, 1)  # a state that is its step's number
    model.world.forward = lambda _: WorldPath(number, number.unsqueeze(-1), number)
    with torch.no_grad():
        h, _ = model._starts(given)
    assert h.shape == (500, 1)
    assert (given.goes_on == 0).any()
    assert given.goes_on.flatten()[h.squeeze(-1)].all()


def test_acting_follows_the_equations_of_the_cart():
    """Pushed to one side always, an episode is the equations' own, and its return the steps until it ends."""
    model, data = actor(steps=40), CartPole(**FEW)
    model.logits = lambda h, z: torch.tensor([0.0, 1.0]).expand(len(h), 1, 2)
    start = data.splits.val.episodes.observation[:, 0]
    states, there = model.act(start, data)
    state, steps = data.states(start), torch.zeros(len(start))
    alive = torch.ones(len(start), dtype=torch.bool)
    torch.testing.assert_close(states[:, 0], state)
    assert state.abs().max() <= 0.0501  # as an episode begins
    for step in range(states.shape[1] - 1):
        steps += alive
        state = pushed(state, torch.ones(len(start), dtype=torch.long))
        alive = alive & ~is_over(state)
        torch.testing.assert_close(states[:, step + 1], state)
        assert torch.equal(there[:, step + 1], alive)
    assert not alive.any()
    assert torch.equal(there[:, :-1].sum(1).float(), steps)
    model._trainer = SimpleNamespace(datamodule=data)
    model.measure(data.splits.val.episodes)
    assert float(model.metrics["return"].compute()) == pytest.approx(float(steps.mean()))
    assert float(model.metrics["loss"].compute()) == pytest.approx(1 - float(steps.mean()) / 40)
    (figure,) = model.figures().values()
    assert [len(line.get_xdata()) for line in figure.axes[1].lines][:16:2] == (steps + 1).int().tolist()
    plt.close(figure)
    assert 7 <= steps.min() <= steps.max() <= 12


@pytest.mark.slow
def test_problem_is_that_of_an_action_given_the_rest():
    """Rows do not mix, the other action costs otherwise, and f has a slope."""
    model = actor().eval()
    torch.manual_seed(3)
    logits, f, estimator = model.problem(batch())
    assert logits.shape == (8, 1, 2)
    assert estimator is model.estimator
    a = functional.one_hot(torch.randint(2, (2, 8, 1)), 2).float().requires_grad_()
    moved = a.detach().clone()
    moved[:, 0] = moved[:, 0].roll(1, -1)
    torch.testing.assert_close(f(a)[:, 1:], f(moved)[:, 1:])
    assert (f(a)[:, 0] - f(moved)[:, 0]).abs().min() > 1e-7
    (slope,) = torch.autograd.grad(f(a).sum(), a)
    assert slope.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "ReinMax"}, "a score function that takes costs later, by act: LeaveOneOut.*given ReinMax"),
        ({"samples": 1}, "LeaveOneOut compares paths from one state, so that samples must be at least 2; given 1"),
        ({"horizon": 0}, "ImaginationActor: horizon must be at least 1; given 0$"),
        ({"discount": 0.0}, r"discount must be in \(0, 1\]; given 0.0"),
        ({"entropy": -1.0}, "entropy must be at least 0; given -1.0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        actor(**options)


def test_a_world_that_is_none_is_refused(tmp_path):
    file = tmp_path / "other.ckpt"
    file.write_bytes(b"nothing")
    for world, why in ((str(file), "it is no file of weights that torch wrote"), ("missing.ckpt", ".*No such file")):
        with pytest.raises(
            ValueError, match=rf"world must be a checkpoint of a WorldModel, as fit --config world_model.*as one: {why}"
        ):
            ImaginationActor(world, "LeaveOneOut")
    with pytest.raises(ValueError, match=r"need size, \[numbers observed, actions\]"):
        ImaginationActor({"estimator": "ReinMax"}, "LeaveOneOut")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Digits, "needs data that have it, such as --data CartPole; given Digits"),
        (lambda: MiniGrid(train=2, test=2), "such as --data CartPole; given MiniGrid"),
    ],
)
def test_data_that_cannot_be_acted_in_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        actor().meet(data(), "fit")


def test_data_of_another_size_are_refused():
    model = ImaginationActor({**WORLD, "size": [4, 3]}, "LeaveOneOut")
    with pytest.raises(ValueError, match=r"is of .* = \[4, 3\]; these data have \[4, 2\]"):
        model.meet(CartPole(**FEW), "fit")


@pytest.mark.long
def test_an_actor_of_imagination_balances_the_pole_for_longer(tmp_path):
    """From a world model of its own, by way of a checkpoint; a random policy makes 22 steps."""
    seed_everything(0, verbose=False)
    data = CartPole(validation=64)
    world = WorldModel("ReinMax", optimizer=lambda p: torch.optim.Adam(p, lr=0.008))
    trainer = quiet_trainer(tmp_path, max_epochs=5)
    trainer.fit(world, datamodule=data)
    trainer.save_checkpoint(tmp_path / "world.ckpt")
    model = ImaginationActor(str(tmp_path / "world.ckpt"), "LeaveOneOut")
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, datamodule=data)
    assert trainer.callback_metrics["val/return"] > 44
    assert set(model.figures()) == {"acted"}
    assert model.summary()["world model by"] == "ReinMax(temperature=1.0)"
    trainer.save_checkpoint(tmp_path / "actor.ckpt")
    (tmp_path / "world.ckpt").unlink()  # a checkpoint of the actor holds it
    again = ImaginationActor.load_from_checkpoint(tmp_path / "actor.ckpt")
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    plt.close("all")


@pytest.mark.long
def test_a_run_by_the_command_line_shows_how_it_acted_and_is_diagnosed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
    words = ["--trainer.limit_test_batches=1", "--trainer.log_every_n_steps=1", "--model.steps=30", "--model.horizon=3"]
    world = '{"estimator": "ReinMax", "latents": 2, "categories": 3, "size": [4, 2]}'
    main(["fit", "--config=imagination_cart_pole", f"--model.world={world}", *few, *words])
    said = capsys.readouterr().out
    assert "return in the true world" in said
    assert "world model by" in said
    (checkpoint,) = Path("lightning_logs").rglob("last.ckpt")
    found = EventAccumulator(str(checkpoint.parents[1])).Reload()
    assert "visual/acted" in found.Tags()["images"]
    main(["diagnose", f"--ckpt_path={checkpoint}", "--estimators=LeaveOneOut", "--draws=32", "--rows=4"])
    assert "exact: every one of 2 ** 1 = 2 states" in " ".join(capsys.readouterr().out.split())
    main(["predict", f"--ckpt_path={checkpoint}", "--trainer.limit_predict_batches=1"])
    (path,) = Path().rglob("predictions.pt")
    (first,) = torch.load(path, weights_only=True)
    assert first["actions"].shape == (32, 24, 2)
    torch.testing.assert_close(first["actions"].sum(-1), torch.ones(32, 24))
