"""A world model with categorical latents: a recurrent state-space model that learns what follows from what is done.

    h_t = GRU(h_{t-1}, [z_{t-1}, a_{t-1}]),   z_t ~ q(h_t, x_t) or, imagined, p(h_t);   q and p with 1 % of the even one
    -ELBO_t = -log p(x_t, goes on, reward | h_t, z_t) + KL(q || p)
    minimised: -log p(...) + dynamics max(1, KL(sg q || p)) + representation max(1, KL(q || sg p)),   sg: no gradient

The draw is one line of an ordinary recurrent network. A draw moves all later logits; pathwise estimators get that by
backpropagation through time.

Source: D. Hafner et al., Mastering Atari with Discrete World Models, 2021, 2010.02193 (categorical latents, balanced
KL); Mastering Diverse Domains through World Models, 2023, 2301.04104 (unimix, free nats, the weights).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import Adam

from ils_lightning.data.episodes import Episodes
from ils_lightning.describe import create
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators import Grouped, Sampler
from ils_lightning.estimators.categorical import indices
from ils_lightning.estimators.distribution import Categorical
from ils_lightning.estimators.replacing import drawn, draws_are_replaced
from ils_lightning.functional import category_drawer, unimix
from ils_lightning.modules.base import Problem
from ils_lightning.modules.code_pictures import evaluating
from ils_lightning.modules.meets_data import DataSize
from ils_lightning.modules.world_measures import WorldMeasures
from ils_lightning.modules.world_paths import Parts, Path, kl, parts, steps
from ils_lightning.networks.state_space import StateSpace


class WorldModel(WorldMeasures):
    """Learns to predict episodes: first with the observation of each step, then, imagining, without.

    Reported are, a step, -ELBO in nats (`loss`), its KL term (`kl`), what is minimised (`objective`), the squared error
    of observations that are imagined `horizon` steps on after `context` observed ones, in variances of the observations
    (`open_loop_error`), and the share of steps of which it is told wrongly whether the episode goes on (`wrong_ends`)
    and whether the step is rewarded (`wrong_rewards`).

    The estimator sees the gradient as it arrives, divided by the batch and its steps: one that is not linear in it and
    does not learn its scale (published ILS, I-MLE) acts as if its step were smaller by that factor. One instance draws
    at all steps; `Grouped` keeps a state for each step.

    Args:
        estimator: any sampler of single categories, or `Grouped` with as many groups as a sequence has steps.
        latents: categorical variables of a step.
        categories: of each.
        recurrent: units of the recurrent state.
        hidden: units of the hidden layers.
        deviation: standard deviation of what is observed around what is predicted.
        unimix: share of the even distribution in q and p.
        free_nats: KL terms are not pushed below it.
        dynamics: weight of the KL term that trains p.
        representation: weight of the KL term that trains q.
        context: observed steps before imagination is measured.
        horizon: imagined steps.
        size: [numbers observed, actions]; taken from the data unless given.
        optimizer: Adam with learning rate 0.002 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> from ils_lightning.data.cart_pole import record
        >>> model = WorldModel(estimator="ReinMax", size=[4, 2])
        >>> episodes = record(3, 10, torch.Generator().manual_seed(0))
        >>> path = model(episodes)
        >>> path.h.shape, path.z.shape
        (torch.Size([3, 10, 64]), torch.Size([3, 10, 8, 8]))
        >>> model.parts(path, model.prior(path.h), episodes).kl.shape
        torch.Size([3, 10])
    """

    size: tuple[int, ...] = ()
    sized_by = DataSize("size", 2, "episodes of [numbers observed, actions]", "episodes, such as --data CartPole")

    def __init__(
        self,
        estimator: Sampler,
        latents: int = 8,
        categories: int = 8,
        recurrent: int = 64,
        hidden: int = 64,
        deviation: float = 0.1,
        unimix: float = 0.01,
        free_nats: float = 1.0,
        dynamics: float = 1.0,
        representation: float = 0.1,
        context: int = 8,
        horizon: int = 15,
        size: list[int] | None = None,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.002),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(category_drawer(create(estimator, Sampler), "WorldModel"), optimizer, lr_scheduler)
        sizes = {"latents": latents, "recurrent": recurrent, "hidden": hidden, "context": context, "horizon": horizon}
        require_at_least(1, "WorldModel", **sizes)
        require_at_least(2, "WorldModel", categories=categories)
        if not 0 < deviation < math.inf:
            raise Refusal(f"WorldModel: deviation must be above 0 and finite; given {deviation}")
        if not 0 <= unimix < 1:
            raise Refusal(f"WorldModel: unimix must be in [0, 1); given {unimix}")
        require_at_least(0, "WorldModel", free_nats=free_nats)
        require_at_least(0, "WorldModel", dynamics=dynamics, representation=representation)
        self.latents, self.categories, self.recurrent, self.hidden = latents, categories, recurrent, hidden
        self.deviation, self.unimix, self.free_nats = deviation, unimix, free_nats
        self.dynamics, self.representation = dynamics, representation
        self.context, self.horizon = context, horizon
        self.save_hyperparameters(ignore=["estimator"])
        self.make_hyperparameters_plain(estimator=self.estimator)
        self.prepare_measures()
        if size:
            self.build(size)

    def make(self, size: tuple[int, ...]) -> None:
        """Makes the networks for episodes of [numbers observed, actions]."""
        observed, actions = size
        self.networks = StateSpace(observed, actions, (self.latents, self.categories), self.recurrent, self.hidden)
        self.estimator.build(self.latents, self.categories)
        one = self.estimator[0] if isinstance(self.estimator, Grouped) else self.estimator
        one.check(torch.zeros(1, self.latents, self.categories))

    def meet(self, data: Any, stage: str) -> None:
        """Refuses sequences that end before imagination does."""
        super().meet(data, stage)
        needed, length = self.context + self.horizon, getattr(data, "length", None)
        if length is not None and length < needed:
            raise Refusal(
                f"WorldModel measures imagination in sequences of at least context + horizon = {needed} steps; these "
                f"have {length}"
            )

    def size_of(self, data: Any) -> Sequence[int] | None:
        return getattr(data, "observed_and_actions", None)

    def forward(self, episodes: Episodes) -> Path:
        """Follows sequences, drawing z of every step with its observation in sight."""
        embedded = self.networks.embedding(episodes.observation).unbind(dim=1)
        h, z = self.networks.start(len(episodes.action))
        path = []
        for sampler, seen, (action, first) in zip(
            self._samplers(len(embedded)), embedded, steps(episodes), strict=True
        ):
            h = self.networks.step(h, z, action, first)
            logits = self.posterior(h, seen)
            z = self._draw(sampler, logits)
            path.append(Path(h, z, logits))
        return Path(*(torch.stack(part, dim=1) for part in zip(*path, strict=True)))

    def _samplers(self, length: int) -> list[Any]:
        """The estimator of each step."""
        if not isinstance(self.estimator, Grouped):
            return [self.estimator] * length
        if len(self.estimator) != length:
            raise Refusal(
                f"WorldModel: Grouped needs a group for each of the {length} steps of a sequence; given "
                f"{len(self.estimator)}"
            )
        return [self.estimator[step] for step in range(length)]

    def _draw(self, sampler: Any, logits: Tensor) -> Tensor:
        """The estimator's draw while it trains, an exact one of the same distribution otherwise."""
        if self.training or draws_are_replaced():
            return drawn(sampler, logits)
        return Categorical(logits).draw().to(logits.dtype)

    def imagine(self, h: Tensor, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Goes on from h and z `[batch, ...]` by the prior alone, along actions `[batch, steps]` of one episode.

        Returns:
            h and z of each imagined step, `[batch, steps, ...]`.
        """
        path = []
        for action in actions.unbind(dim=1):
            h = self.networks.step(h, z, action, torch.zeros_like(action, dtype=torch.bool))
            z = Categorical(self.prior(h)).draw().to(h.dtype)
            path.append((h, z))
        hs, zs = (torch.stack(part, dim=1) for part in zip(*path, strict=True))
        return hs, zs

    def prior(self, h: Tensor) -> Tensor:
        """Returns the logits of p, with unimix, given h `[*batch, recurrent]`."""
        return unimix(self.networks.prior(h), self.unimix)

    def posterior(self, h: Tensor, embedded: Tensor) -> Tensor:
        """Returns the logits of q, with unimix, given h and embedded observations `[*batch, hidden]`."""
        return unimix(self.networks.posterior(h, embedded), self.unimix)

    def parts(self, path: Path, p: Tensor, episodes: Episodes) -> Parts:
        """Returns the nats of each step of a path `[*batch, length]`, p being the prior's logits along it."""
        answers = self.networks.decode(path.h, path.z)
        return parts(answers, path.logits, p, episodes, self.deviation)

    def objective(self, found: Parts, to_p: Tensor, to_q: Tensor) -> Tensor:
        """Returns what is minimised, of each step: the KL term twice, as p and as q get their gradient from it."""
        free = self.free_nats
        weighed = self.dynamics * to_p.clamp(min=free) + self.representation * to_q.clamp(min=free)
        return found.reconstruction + found.continuation + found.reward + weighed

    def training_step(self, batch: Episodes) -> Tensor:
        """Returns what is minimised, a step."""
        path = self(batch)
        q, p = path.logits, self.prior(path.h)
        found = self.parts(path, p, batch)
        objective = self.objective(found, kl(q.detach(), p), kl(q, p.detach())).mean()
        negative_elbo = torch.stack(found).detach().sum(dim=0).mean(dim=1)
        told = {"reconstruction": found.reconstruction, "kl": found.kl, "objective": objective}
        self.log_training(negative_elbo, **{name: one.detach().mean() for name, one in told.items()})
        return objective

    def problem(self, batch: Episodes) -> Problem:
        """The draw of the step in the middle, and what it changes, its own and all later steps, in nats.

        Draws of later steps are held as they fell once. The KL term is not cut into one for q and one for p, for it
        must be a function of the draw.
        """
        with evaluating(self):
            path = self(batch)
        middle = path.z.shape[1] // 2
        later = Episodes(*(part[:, middle:] for part in batch))
        h, held = path.h[:, middle], path.z[:, middle + 1 :]
        embedded = self.networks.embedding(later.observation)

        def f(z: Tensor) -> Tensor:  # [samples, batch, latents, categories]
            hs, zs = [h.expand(*z.shape[:-2], -1)], [z]
            for after, (action, first) in zip(held.unbind(dim=1), steps(later)[1:], strict=True):
                hs.append(self.networks.step(hs[-1], zs[-1], action, first))
                zs.append(after.expand_as(z))
            along = torch.stack(hs, dim=-2)
            logits = self.posterior(along, embedded)
            found = self.parts(Path(along, torch.stack(zs, dim=-3), logits), self.prior(along), later)
            return self.objective(found, found.kl, found.kl).sum(dim=-1)

        one = self._samplers(path.z.shape[1])[middle]
        return Problem(self.posterior(h, embedded[:, 0]), f, one)

    def predict_step(self, batch: Episodes) -> dict[str, Tensor]:
        """Returns codes `[batch, length, latents]`, and what is decoded of them: means, and the odds of coins."""
        path = self(batch)
        told = self.networks.decode(path.h, path.z)
        coins = {"goes_on": told.goes_on.sigmoid(), "reward": told.reward.sigmoid()}
        return {"codes": indices(path.z, 1), "observation": told.observation, **coins}
