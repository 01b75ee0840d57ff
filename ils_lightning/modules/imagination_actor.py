"""An actor that learns inside a world model, by what it imagines, and is measured in the true world.

    from a state that was seen: a_t ~ policy(s_t), s_{t+1} ~ the world model, `horizon` times; no step of it is true
    minimised: mean_t w_t (-(R_t - V_t) / scale, by a score function's `act`) - entropy H(policy) + (V_t - R_t)^2 / 2

R, V and w are those of `imagined_returns`; the scale is the range from the 5th to the 95th percentile of the returns,
at least 1. The draw of an action is one latent of as many categories as there are actions.

Source: D. Hafner et al., Mastering Atari with Discrete World Models, 2021, 2010.02193; Mastering Diverse Domains
through World Models, 2023, 2301.04104 (the scale).
"""

from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import Adam
from torchmetrics import MeanMetric

from ils_lightning.data.episodes import Episodes
from ils_lightning.describe import in_words
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators import Estimator
from ils_lightning.estimators.distribution import Categorical
from ils_lightning.estimators.several import Several
from ils_lightning.modules.base import Charts, Problem, Tracked
from ils_lightning.modules.code_pictures import evaluating
from ils_lightning.modules.earlier_stage import earlier_stage
from ils_lightning.modules.imagined_returns import worth
from ils_lightning.modules.measured import Measured
from ils_lightning.modules.world_model import WorldModel
from ils_lightning.modules.world_model_pictures import acted_episodes
from ils_lightning.networks.mlp import MLP
from ils_lightning.networks.state_space import Decoded

_SHOWN = 8  # episodes in the picture


class ImaginationActor(Measured):
    """Learns a policy inside a trained world model, which stays as it is, without a step in the true world.

    Validation and test act in the true world, each episode from where a held-out one begins, by the likeliest action:
    `return` is the sum of its rewards, of `steps` at most, `loss` the share of these that it lost. In training the
    `loss` is the share of imagined steps that were lost. A checkpoint holds the world model too.

    Args:
        world: last.ckpt of `fit --config world_model`, or another checkpoint of a `WorldModel`; in checkpoints of this
            model, the settings to make it with.
        estimator: a score function that takes costs later, by `act`: `LeaveOneOut`, `Reinforce`, `Grpo`, `DrGrpo`.
        samples: imagined paths from one state, which those that compare draws compare.
        starts: states a step that paths begin in.
        horizon: imagined steps.
        discount: what a reward loses with each step.
        trace: weight of imagined rewards beside the critic's values.
        entropy: weight of the policy's entropy in nats.
        hidden: units of the hidden layer of policy and critic.
        steps: of an episode in the true world, at most.
        optimizer: Adam with learning rate 0.001 unless given.
        lr_scheduler: none unless given.

    Raises:
        ValueError: when a number is out of its range, `world` is no world model, or the estimator takes no later costs.

    Example:
        >>> world = {"estimator": "ReinMax", "size": [4, 2]}
        >>> actor = ImaginationActor(world, "LeaveOneOut")
        >>> h, z = torch.zeros(3, 64), torch.zeros(3, 8, 8)
        >>> actor.logits(h, z).shape, actor.value(h, z).shape
        (torch.Size([3, 1, 2]), torch.Size([3]))
    """

    test_after_fit = True
    in_bar = ("return",)
    tracked: Tracked = Tracked("loss", "share of imagined steps that are lost")
    charts: ClassVar[Charts] = {
        "returns": {
            "return in the true world (rewards)": ["val/return"],
            "share of steps lost: imagined, true": ["train/loss", "val/loss"],
        },
        "actor": {
            "entropy of the policy (nats)": ["train/entropy"],
            "squared error of the critic": ["train/critic"],
        },
    }

    def __init__(
        self,
        world: str | dict,
        estimator: Estimator,
        samples: int = 4,
        starts: int = 64,
        horizon: int = 15,
        discount: float = 0.97,
        trace: float = 0.95,
        entropy: float = 0.003,
        hidden: int = 64,
        steps: int = 200,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.001),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(estimator, optimizer, lr_scheduler)
        sizes = {"samples": samples, "starts": starts, "horizon": horizon, "hidden": hidden, "steps": steps}
        require_at_least(1, "ImaginationActor", **sizes)
        if not 0 < discount <= 1:
            raise Refusal(f"ImaginationActor: discount must be in (0, 1]; given {discount}")
        if not 0 <= trace <= 1:
            raise Refusal(f"ImaginationActor: trace must be in [0, 1]; given {trace}")
        require_at_least(0, "ImaginationActor", entropy=entropy)
        if type(self.estimator).act is Estimator.act:
            raise Refusal(
                "ImaginationActor needs a score function that takes costs later, by act: LeaveOneOut, Reinforce, Grpo "
                f"or DrGrpo; given {in_words(self.estimator)}"
            )
        if isinstance(self.estimator, Several) and samples < 2:
            raise Refusal(
                f"ImaginationActor: {type(self.estimator).__name__} compares paths from one state, so that samples "
                f"must be at least 2; given {samples}"
            )
        made, settings = earlier_stage(world, WorldModel, "ImaginationActor: world", "fit --config world_model")
        if not made.is_built:
            raise Refusal("ImaginationActor: the settings of world need size, [numbers observed, actions]")
        self.world = made.requires_grad_(False)
        self.samples, self.starts, self.horizon, self.steps = samples, starts, horizon, steps
        self.discount, self.trace, self.entropy = discount, trace, entropy
        self.save_hyperparameters(ignore=["world", "estimator"])
        self.make_hyperparameters_plain(estimator=self.estimator)
        self.save_hyperparameters({"world": settings})
        self.policy, self.critic = MLP([hidden, hidden]), MLP([hidden, hidden])
        state = made.recurrent + made.latents * made.categories
        self.policy.build((state,), (1, made.size[1]))
        self.critic.build((state,), (1,))
        self.estimator.build(1, made.size[1])
        self.metrics = nn.ModuleDict({name: MeanMetric() for name in ("loss", "return")})
        self._shown: tuple[Tensor, Tensor] | None = None
        self.prepare_curve()

    def parameter_groups(self) -> Any:
        """The policy, the critic and what the estimator learns: the world model stays as it is."""
        return [one for name, one in self.named_parameters() if not name.startswith("world.")]

    def meet(self, data: Any, stage: str) -> None:
        """Refuses data that are not of the world model's kind, or cannot be acted in."""
        del stage
        if not (hasattr(data, "step") and hasattr(data, "states")):
            given = "loaders without a DataModule" if data is None else type(data).__name__
            raise Refusal(
                f"ImaginationActor is measured in the true world: it needs data that have it, such as --data CartPole; "
                f"given {given}"
            )
        if tuple(data.observed_and_actions) != tuple(self.world.size):
            raise Refusal(
                f"ImaginationActor: the world model is of [numbers observed, actions] = {list(self.world.size)}; these "
                f"data have {list(data.observed_and_actions)}"
            )

    def logits(self, h: Tensor, z: Tensor) -> Tensor:
        """Returns the policy's logits `[*batch, 1, actions]` in the states h and z of the world model."""
        return self.policy(torch.cat([h, z.flatten(-2)], dim=-1))

    def value(self, h: Tensor, z: Tensor) -> Tensor:
        """Returns the critic's guess of the return from there on `[*batch]`."""
        return self.critic(torch.cat([h, z.flatten(-2)], dim=-1)).squeeze(-1)

    def _starts(self, batch: Episodes) -> tuple[Tensor, Tensor]:
        """States h and z `[starts, ...]` of steps after which the episode goes on, drawn from all of a batch."""
        with evaluating(self.world):
            path = self.world(batch)
        there = batch.goes_on.flatten().nonzero().squeeze(-1)
        chosen = there[torch.randint(len(there), (self.starts,), device=there.device)]
        return path.h.flatten(0, 1)[chosen], path.z.flatten(0, 1)[chosen]

    def training_step(self, batch: Episodes) -> Tensor:
        """Returns what is minimised, a path's step."""
        h, z = (one.expand(self.samples, *one.shape) for one in self._starts(batch))
        values, credits, entropies, told = [self.value(h, z)], [], [], []
        for _ in range(self.horizon):
            logits = self.logits(h, z)
            action, credit = self.estimator.act(logits)
            h, z = self._next(h, z, action.squeeze(-2))
            credits.append(credit)
            entropies.append(Categorical(logits).entropy().squeeze(-1))
            values.append(self.value(h, z))
            told.append(self.world.networks.decode(h, z))
        reward, goes_on = _odds(told)
        value = torch.stack(values)
        returns, weights = worth(reward, goes_on, value.detach(), self.discount, self.trace)
        low, high = returns.flatten().quantile(returns.new_tensor([0.05, 0.95]))
        cost = weights * (value[:-1].detach() - returns) / (high - low).clamp(min=1)
        acting = torch.stack([credit(one) for credit, one in zip(credits, cost, strict=True)]).mean()
        entropy = torch.stack(entropies)
        critic = (weights * (value[:-1] - returns).square()).mean() / 2
        there = torch.cat([torch.ones_like(goes_on[:1]), goes_on[:-1]]).cumprod(dim=0)
        lost = 1 - (reward * there).mean(dim=(0, 1))
        self.log_training(lost, entropy=entropy.detach().mean(), critic=critic.detach())
        return acting - self.entropy * (weights * entropy).mean() + critic

    def _next(self, h: Tensor, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The state that the world model draws after an action `[*batch, actions]`, one-hot."""
        first = torch.zeros(h.shape[:-1], dtype=torch.bool, device=h.device)
        with torch.no_grad():
            h = self.world.networks.step(h, z, action, first)
            return h, Categorical(self.world.prior(h)).draw().to(h.dtype)

    def problem(self, batch: Episodes) -> Problem:
        """The first action of imagined paths, one from each of `starts` states, and what it changes: minus the return.

        Later actions, and the world model's draws, are held as they fell once; the critic ends the path.
        """
        h, z = self._starts(batch)
        actions, draws, after = [], [], (h, z)
        with torch.no_grad():
            for _ in range(self.horizon):
                logits = self.logits(*after)
                actions.append(Categorical(logits).draw().to(h.dtype).squeeze(-2))
                after = self._next(*after, actions[-1])
                draws.append(after[1])
        first = torch.zeros(len(h), dtype=torch.bool, device=h.device)

        def f(a: Tensor) -> Tensor:  # [samples, batch, 1, actions]
            along, code = h.expand(*a.shape[:-2], -1), z.expand(*a.shape[:-2], -1, -1)
            told, values = [], [self.value(along, code)]
            for action, drawn in zip([a.squeeze(-2), *actions[1:]], draws, strict=True):
                along = self.world.networks.step(along, code, action.expand(*a.shape[:-2], -1), first)
                code = drawn.expand_as(code)
                told.append(self.world.networks.decode(along, code))
                values.append(self.value(along, code))
            return -worth(*_odds(told), torch.stack(values), self.discount, 1.0).returns[0]

        return Problem(self.logits(h, z), f, self.estimator)

    @torch.no_grad()
    def act(self, observation: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Acts in the true world, from first observations `[batch, observed]` on.

        Args:
            observation: of the first steps of episodes.
            data: the DataModule that the true world is of.

        Returns:
            States `[batch, steps + 1, ...]`, and whether the episode still went on in them, `[batch, steps + 1]`.
        """
        networks, world = self.world.networks, self.world
        h, z = networks.start(len(observation))
        state, alive = data.states(observation), torch.ones(len(observation), dtype=torch.bool, device=self.device)
        action, first = torch.zeros_like(alive, dtype=torch.long), torch.ones_like(alive)
        states, there = [state], [alive]
        for _ in range(self.steps):
            h = networks.step(h, z, action, first)
            seen = world.posterior(h, networks.embedding(observation))
            z = Categorical(seen).draw().to(h.dtype)
            action, first = self.logits(h, z).squeeze(-2).argmax(dim=-1), torch.zeros_like(first)
            state, observation, goes_on = data.step(state, action)
            alive = alive & goes_on
            states.append(state)
            there.append(alive)
            if not alive.any():
                break
        return torch.stack(states, dim=1), torch.stack(there, dim=1)

    def measure(self, batch: Episodes) -> None:
        """Acts one episode in the true world for each sequence, from its first observation on."""
        metrics: Any = self.metrics
        states, there = self.act(batch.observation[:, 0], self.datamodule)
        gained = there[:, :-1].sum(dim=1).to(states.dtype)  # a reward for each step made, the last one included
        metrics["return"].update(gained)
        metrics["loss"].update(1 - gained / self.steps)
        if self._shown is None:
            self._shown = states[:_SHOWN].cpu(), there[:_SHOWN].cpu()

    def predict_step(self, batch: Episodes) -> dict[str, Tensor]:
        """Returns the probabilities of each action `[batch, length, actions]` at the steps of sequences."""
        path = self.world(batch)
        return {"actions": self.logits(path.h, path.z).squeeze(-2).softmax(dim=-1)}

    def on_validation_epoch_start(self) -> None:
        """Shows the episodes of the latest validation."""
        self._shown = None

    def figures(self) -> dict[str, Figure]:
        """Episodes in the true world."""
        return {} if self._shown is None else {"acted": acted_episodes(*self._shown, self.steps)}

    def in_words(self, name: str, value: float) -> tuple[str, str]:
        """Names and units of what is measured."""
        words = {
            "return": ("return in the true world", f"{value:.1f} of {self.steps}"),
            "loss": ("steps lost", f"{value:.2%} of {self.steps}"),
        }
        return words.get(name) or super().in_words(name, value)

    def summary(self) -> dict[str, str]:
        """What validation measured."""
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        rows = {"estimator": in_words(self.estimator), "world model by": in_words(self.world.estimator)}
        measured = [name for name in found if name.startswith("val/")]
        rows |= dict(self.in_words(name.removeprefix("val/"), found[name]) for name in measured)
        return rows | self.summary_of_data()


def _odds(told: list[Decoded]) -> tuple[Tensor, Tensor]:
    """Probabilities of a reward, and of going on, at each of the steps that were decoded, `[steps, *batch]`."""
    return torch.stack([one.reward for one in told]).sigmoid(), torch.stack([one.goes_on for one in told]).sigmoid()
