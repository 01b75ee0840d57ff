"""Latent trees of ListOps: expressions are evaluated along arcs which no one shows, learnt from the values alone.

    z_i ~ q(parser(tokens)_i), q mostly softmax,   which operator token i is an argument of, all tokens independently
    loss = E -log p(value | z, tokens),   p = executor along the arcs z

Both networks are learnt: the executor what the operators do, by ordinary gradients; the parser which arcs to draw, by
the estimator.

Source: the task of N. Nangia and S. Bowman, 2018, 1804.06028; arcs drawn at once, evaluated by message passing, as in
M. Paulus et al., Gradient Estimation with Stochastic Softmax Tricks, 2020, 2006.08063.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import Adam
from torchmetrics import MeanMetric

from ils_lightning import plots
from ils_lightning.data.expression_set import Expressions
from ils_lightning.data.expressions import BLANK, CLOSE, NAMES
from ils_lightning.describe import in_words
from ils_lightning.errors import require_at_least
from ils_lightning.estimators import Estimator
from ils_lightning.estimators.categorical import one_hot
from ils_lightning.modules.base import Charts, Problem, Tracked, require_one_category
from ils_lightning.modules.measured import Measured
from ils_lightning.modules.meets_data import DataSize
from ils_lightning.networks.trees import Executor, Layout, Parser, layout


class LatentTree(Measured):
    """Learns to parse and to evaluate expressions of `ListOps` from their values.

    Reported are the share of wrong answers along the most probable arcs (`error`) and along drawn ones
    (`error_of_draws`), and the share of arcs that are not those of the expression (`wrong_arcs`).

    Args:
        estimator: any estimator.
        parser_units: units of the parser's recurrent network.
        executor_units: units of the executor's two hidden layers.
        rounds: levels of nesting that the executor computes.
        size: [tokens, operators] of an expression at most; taken from the data unless given.
        optimizer: Adam with learning rate 0.005 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> from ils_lightning.data.expressions import parse
        >>> from ils_lightning.estimators import ReinMax
        >>> model = LatentTree(estimator=ReinMax(), size=[8, 2])
        >>> tokens = torch.tensor([parse("[MAX 2 [SM 9 9 ] 1 ]")])
        >>> model.logits(tokens).shape
        torch.Size([1, 8, 2])
    """

    size: tuple[int, ...] = ()
    sized_by = DataSize("size", 2, "expressions of at most [tokens, operators]", "expressions, such as --data ListOps")
    monitor = "val/error"
    test_after_fit = True
    tracked: Tracked = Tracked("loss", "-log p(value), training expressions (nats)")
    charts: ClassVar[Charts] = {
        "objective": {
            "-log p(value) (nats)": ["train/loss", "val/loss"],
            "wrong answers: along the best arcs, and along draws": ["val/error", "val/error_of_draws"],
            "wrong arcs": ["val/wrong_arcs"],
        }
    }

    def __init__(
        self,
        estimator: Estimator,
        parser_units: int = 32,
        executor_units: int = 128,
        rounds: int = 4,
        size: list[int] | None = None,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.005),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(estimator, optimizer, lr_scheduler)
        require_at_least(1, "LatentTree", parser_units=parser_units, executor_units=executor_units, rounds=rounds)
        require_one_category("LatentTree", self.estimator)
        self.parser_units, self.executor_units, self.rounds = parser_units, executor_units, rounds
        self.save_hyperparameters(ignore=["estimator"])
        self.make_hyperparameters_plain(estimator=self.estimator)
        self.metrics = nn.ModuleDict({name: MeanMetric() for name in ("loss", "error", "error_of_draws", "wrong_arcs")})
        self._shown: Expressions | None = None
        self.prepare_curve()
        if size:
            self.build(size)

    def make(self, size: tuple[int, ...]) -> None:
        """Makes the networks for expressions of at most [tokens, operators]."""
        tokens, operators = size
        self.parser = Parser(operators, self.parser_units)
        self.executor = Executor(operators, self.executor_units, self.rounds)
        self.estimator.build(tokens, operators)
        self.estimator.check(torch.zeros(1, tokens, operators))

    def size_of(self, data: Any) -> Sequence[int] | None:
        return (data.longest, data.operators) if hasattr(data, "longest") else None

    def logits(self, tokens: Tensor) -> Tensor:
        """Returns the logits of arcs `[batch, tokens, operators]` of tokens `[batch, tokens]`."""
        return self.parser(tokens, layout(tokens, self.size[1]))

    def loss_of_arcs(self, tokens: Tensor, value: Tensor, place: Layout) -> Callable[[Tensor], Tensor]:
        """Returns f(z) = -log p(value | z, tokens), which the estimator calls."""

        def f(z: Tensor) -> Tensor:
            answers = self.executor(z, tokens, place)
            return -answers.gather(-1, value.expand(len(z), -1).unsqueeze(-1)).squeeze(-1)

        return f

    def problem(self, batch: Expressions) -> Problem:
        """The parser's logits and the executor's loss."""
        place = layout(batch.tokens, self.size[1])
        return Problem(self.parser(batch.tokens, place), self.loss_of_arcs(batch.tokens, batch.value, place))

    def training_step(self, batch: Expressions) -> Tensor:
        """Returns the loss."""
        logits, f, _ = self.problem(batch)
        loss = self.estimator(logits, f)
        self.log_training(loss)
        return loss.mean()

    def predict_step(self, batch: Expressions) -> dict[str, Tensor]:
        """Returns the most probable answers `[batch]` along the most probable arcs, and these as `parents`."""
        place = layout(batch.tokens, self.size[1])
        best = self.estimator.distribution(self.parser(batch.tokens, place)).mode().argmax(dim=-1)
        return {"value": self._answers(best, batch, place).argmax(dim=-1), "parents": self._parents(best, place)}

    def _answers(self, arcs: Tensor, batch: Expressions, place: Layout) -> Tensor:
        z = one_hot(arcs, like=self.parser.recency).unsqueeze(0)
        return self.executor(z, batch.tokens, place).squeeze(0)

    def _parents(self, arcs: Tensor, place: Layout) -> Tensor:
        """Places of the operators that arcs `[batch, tokens]` lead to, -1 where there is no arc."""
        slot = place.candidate.gather(-1, arcs.unsqueeze(-1)).squeeze(-1)
        places = torch.arange(arcs.shape[1], device=arcs.device).expand_as(arcs)
        of_slots = torch.zeros(len(arcs), self.size[1] + 1, dtype=torch.long, device=arcs.device)
        of_slots = of_slots.scatter(1, place.slot, places)
        return torch.where(place.choosing, of_slots.gather(1, slot.clamp(min=0)), -1)

    def measure(self, batch: Expressions) -> None:
        """Measures answers and arcs."""
        metrics: Any = self.metrics
        place = layout(batch.tokens, self.size[1])
        q = self.estimator.distribution(self.parser(batch.tokens, place))
        arcs = q.mode().argmax(dim=-1)
        drawn, best = (self._answers(one, batch, place) for one in (q.draw().argmax(dim=-1), arcs))
        metrics["loss"].update(-drawn.gather(-1, batch.value.unsqueeze(-1)))
        metrics["error"].update((best.argmax(dim=-1) != batch.value).float())
        metrics["error_of_draws"].update((drawn.argmax(dim=-1) != batch.value).float())
        found = self._parents(arcs, place)
        metrics["wrong_arcs"].update((found != batch.parents)[place.choosing].float())
        self._shown = batch

    def figures(self) -> dict[str, Figure]:
        """The arcs of the validation expression with most operators, true ones above and learnt ones below."""
        if self._shown is None:
            return {}
        batch = self._shown
        row = int((batch.tokens == CLOSE).sum(dim=1).argmax())
        one = Expressions(*(part[row : row + 1] for part in batch))
        with torch.no_grad():
            found = self.predict_step(one)
        length = int((one.tokens[0] != BLANK).sum())
        names = [NAMES[token] for token in one.tokens[0, :length].tolist()]
        true, learnt = (arcs[0, :length].tolist() for arcs in (one.parents, found["parents"]))
        title = f"arcs to each token's operator: value {int(one.value[0])}, answer {int(found['value'][0])}"
        return {"arcs": plots.arcs(names, true, learnt, title)}

    def summary(self) -> dict[str, str]:
        """Wrong answers and wrong arcs on the validation expressions."""
        rows = {"estimator": in_words(self.estimator)}
        _, values = self.curve()
        if len(values):
            rows["training loss, last epoch"] = f"{values[-1].item():.3f} nats"
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        if "val/error" in found:
            rows["validation"] = f"{found['val/error']:.1%} wrong answers, {found['val/wrong_arcs']:.1%} wrong arcs"
        return rows | self.summary_of_data()
