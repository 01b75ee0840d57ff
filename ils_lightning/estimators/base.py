"""The one interface: an estimator calls the loss itself and delivers the gradient of its expectation to the logits.

A loss is a function f of one-hot draws z `[samples, *batch, latents, categories]` that answers `[samples, *batch]`, row
by row: f(z)[s, b] depends on z[s, b] alone. A batch whose rows are judged by each other, as with negatives from the
batch, is to be stated as latents of one row; `Estimator.validate` and `diagnose` find out. `Estimator.forward` returns
the loss `[*batch]`; its backward hands df/dtheta to whatever f holds and the estimate of d E f / d logits to the
logits, both times the row's upstream gradient.

Why the estimator owns the calls to f: some estimators are not linear in df/dz, so they must see the gradient of one
example, not that of a mean scaled for mixed precision; others need f several times, or at relaxed points that must not
train the model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ils_lightning.describe import Described
from ils_lightning.errors import Refusal
from ils_lightning.estimators import categorical, one_layer
from ils_lightning.estimators.compiling import POOLS, Compilable, outside
from ils_lightning.estimators.coupling import check_coupling
from ils_lightning.estimators.delivery import deliver, no_own
from ils_lightning.estimators.distribution import Categorical, Distribution
from ils_lightning.estimators.loss import (
    LEARNS,
    Loss,
    evaluate,
    refuse_transforms,
)

Option = float | list[float] | Tensor
Lesson = Callable[[Tensor], None]
"""What state learns from a step, told which rows `[*batch]` (or all, a single True) count."""


def per_row(option: Any, logits: Tensor) -> Any:
    """An option as it enters a formula: a number, or a tensor whose axes are the leading axes of the batch."""
    if isinstance(option, Tensor) and option.dim() > 0:
        return option.reshape(option.shape + (1,) * (logits.dim() - option.dim()))
    return option


def is_one(option: Any) -> bool:
    """Whether an option is the plain number 1, for which some formulas are shorter; never for one value per row."""
    return not isinstance(option, Tensor) and option == 1


class Estimator(Described, Compilable):
    """Estimates d E f(z) / d logits for z drawn from softmax(logits). Subclasses write `estimate`.

    Attributes:
        unbiased: the estimate's expectation is the gradient for every f.
        exact_for: the largest class of f for which it is: "none", "linear", "quadratic" or "all".
        needs_gradient: f must be differentiable in z.
        hard: f sees exact one-hot draws of softmax(logits), so the loss itself is unbiased.
        ones: how many categories of a latent a draw has: one, but for subsets.
        needs_log_weight: the loss is a bound made of the draws' weights, no mean over draws: a model must put all of
            log q(z) - log p(x, z) into f and may have no KL term beside it.
        pooled: a row's estimate depends on other rows of the batch (or of earlier batches).
        pooled_by_state: it does so through learnt state alone: in evaluation mode rows are independent.
        binary: defined for two categories only.
        closed_form: where f has a `closed_form_gradient`, `estimate` is nothing but formulas: no graph is built.
        kind: "pathwise", "score function", "finite difference", "exact" or "wrapper".
        cost: `evaluations` as a formula for readers: S is `samples`, K categories, L latents; options by their name.
        calls: how often f is called for one estimate (at usual sizes): each call moves running statistics of f's layers
            (BatchNorm), also one at relaxed points or other draws that train nothing.
        source: authors, year and identifier of the paper.
        equation: what an estimate is, in TeX: rows of an `aligned` block, in the letters of the module's docstring.
    """

    _abstract = True

    unbiased: ClassVar[bool] = False
    needs_gradient: bool = False
    binary: ClassVar[bool] = False
    closed_form: ClassVar[bool] = False
    kind: ClassVar[str] = "score function"
    source: ClassVar[str] = ""
    equation: ClassVar[str] = ""
    counts: ClassVar[dict[str, int]] = {}
    """Options that are whole numbers and may change from step to step, with the least each may be."""
    hard: bool = True
    ones: int = 1
    needs_log_weight: bool = False
    pooled: bool = False
    pooled_by_state: bool = False
    exact_for: Literal["none", "linear", "quadratic", "all"] = "none"
    cost: str = "1"
    counted: Tensor | None = None
    """Rows `[*batch]` that count, those with an upstream gradient, while a backward pass pulls it back; None is all."""
    calls: int = 1
    validate: bool | None = None
    """Check values of the logits: None on the CPU only (on an accelerator it makes the host wait), True, False.

    True also asks at every call with a gradient whether f judges each row by itself: f is evaluated without gradient at
    draws of which some are changed, at least 10 times and about 2 + 2 log2(rows) times, and a ValueError is raised when
    a row's loss moves with the draws of other rows. So is one where it moves with the draws beside it, unless the
    estimator draws once a call. Noise that f draws by torch (dropout) is held the same and the stream of random numbers
    put back; noise from elsewhere hides what is smaller than ten times it. Buffers that f changes at every call, such
    as running statistics, are changed. None and False cost nothing. `sample`, which sees no f, and compiled calls
    cannot ask.
    """
    _draws_beside: ClassVar[int] = 2

    def __init__(self) -> None:
        super().__init__()
        self.ranges: dict[str, tuple[float, bool]] = {}
        self._deferred: list[Lesson] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        """Estimates loss and gradient, leaving f's graph alive for the parameters inside f.

        Returns:
            The loss `[*batch]` and the estimate of d E f / d logits `[*batch, latents, categories]`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define estimate(logits, f)")

    def forward(self, logits: Tensor, f: Loss) -> Tensor:
        """Returns the loss `[*batch]`, whose backward delivers the estimate to the logits.

        Raises:
            ValueError: when `logits` or f's answer break the rules.
        """
        self.check(logits)
        if not torch.is_grad_enabled():
            return self.value(logits, f)
        self._check_coupling(logits, f)
        if torch.compiler.is_compiling() and self.graph_breaks not in ("", POOLS):
            return outside(self.forward, logits, f)
        logits = one_layer.watched(self, logits) if self._watches(logits) else logits
        with self.deferring() as lessons:
            loss, estimate = self.estimate(logits, f)
        own = [p for p in self.parameters() if p.requires_grad]
        after = partial(_after, lessons, estimate, own) if own or lessons else no_own
        return deliver(loss, logits, estimate.detach(), type(self).__name__, after, *own)

    def sample(self, logits: Tensor) -> Tensor:
        """Says that only samplers draw z alone."""
        raise Refusal(
            f"{type(self).__name__} is no sampler: it evaluates the loss itself, by estimator(logits, f). "
            "Draws alone come from sample(logits) of samplers (ReinMax, ILSNewton, StraightThrough)"
        )

    def act(self, logits: Tensor) -> tuple[Tensor, Any]:
        """Says that only score functions take the cost of a draw later."""
        raise Refusal(
            f"{type(self).__name__} has no credit for costs that come later: it evaluates the loss itself, by "
            "estimator(logits, f). Reinforce, LeaveOneOut and Grpo draw by act(logits)"
        )

    def credit(self, logits: Tensor, index: Tensor) -> Any:
        """Says that only score functions take the cost of draws that were made elsewhere."""
        raise Refusal(f"{type(self).__name__} takes no costs of draws made elsewhere; LeaveOneOut and Grpo do")

    @property
    def learns(self) -> bool:
        """Whether training changes something in the estimator itself: then each layer needs an instance of its own."""
        parts = self._parameters or self._modules  # most estimators have none, which is quick to see
        return self.pooled_by_state or (bool(parts) and any(True for _ in self.parameters()))

    def _watches(self, logits: Tensor) -> bool:
        """Whether `one_layer` is to watch these logits: where what is learnt is at stake."""
        watching = self.training and logits.requires_grad and torch.is_grad_enabled() and self.learns
        return watching and categorical.plain_call()

    @contextmanager
    def deferring(self) -> Iterator[list[Lesson]]:
        """Collects the lessons of an `estimate` instead of giving them, for a backward pass to give."""
        self._deferred, before = [], self._deferred
        try:
            yield self._deferred
        finally:
            self._deferred = before

    def learn_later(self, logits: Tensor, lesson: Lesson) -> None:
        """Gives a lesson once it is known which rows have an upstream gradient: at once if no backward will tell."""
        refuse_transforms(type(self).__name__, LEARNS)
        if self._deferred is not None:
            self._deferred.append(lesson)
        elif self.counted is not None:
            lesson(self.counted)
        else:
            lesson(torch.ones((), dtype=torch.bool, device=logits.device))

    def value(self, logits: Tensor, f: Loss) -> Tensor:
        """Returns the loss `[*batch]` of one exact draw of `distribution(logits)`: what validation reports."""
        self.check(logits)
        z = self.distribution(logits).draw().to(logits.dtype)
        return evaluate(f, z.unsqueeze(0)).squeeze(0)

    @property
    def needs_slopes(self) -> Literal["all", "drawn", "none"]:
        """Which of df/dz the estimate uses: of "all" categories, of the "drawn" ones only, or "none".

        In a mixture of experts, "all" takes the output of every expert, "drawn" that of the drawn one.
        """
        return "all" if self.needs_gradient else "none"

    def distribution(self, logits: Tensor) -> Distribution:
        """Returns what draws follow in the model that this estimator trains: softmax(logits) unless overridden.

        KL terms, log-probabilities, draws and most probable codes of models are taken from it. Its functions are
        differentiable in the logits. An estimator of relaxed draws trains on these and says what they stand for.
        """
        return Categorical(logits)

    def evaluations(self, latents: int, categories: int) -> int:
        """Number of rows of f evaluated for one estimate of one row."""
        del latents, categories
        return 1

    def evaluations_of(self, f: Loss, latents: int, categories: int) -> int:
        """`evaluations` for this f, of which an estimator may need fewer than of another."""
        del f
        return self.evaluations(latents, categories)

    def build(self, latents: int, categories: int) -> None:
        """Makes state whose size depends on the problem; called by modules at set-up, else at first use."""

    def diagnostics(self) -> dict[str, Tensor]:
        """Scalars worth logging about the estimator's own work since the last call."""
        return {}

    def check(self, logits: Tensor) -> None:
        """Raises a ValueError that names the rule which `logits` break."""
        name = type(self).__name__
        if not categorical.are_logits(logits):
            raise Refusal(
                f"{name} needs floating-point logits [*batch, latents, categories], at least one of both; "
                f"given {categorical.kind(logits)}"
            )
        if self.binary and logits.shape[-1] != 2:
            raise Refusal(
                f"{name} is defined for 2 categories only; given {logits.shape[-1]}. {self._many_categories()}"
            )
        self._check_options(logits)
        if self.validates(logits) and not torch.isfinite(logits.detach().amax(dim=-1)).all():
            raise Refusal(
                f"{name} needs every row of logits to have a finite maximum; {categorical.broken_rows(logits)}"
            )

    def _check_options(self, logits: Tensor) -> None:
        for name in self.ranges:
            value = getattr(self, name, None)
            if isinstance(value, Tensor) and value.dim() and value.shape != logits.shape[: value.dim()]:
                raise Refusal(
                    f"{type(self).__name__}: {name} holds {list(value.shape)} values, one for each entry of the "
                    f"leading batch axes; these are {list(logits.shape[:-2])} (a run of several settings has "
                    "--model.settings and --data.settings)"
                )

    def option(self, name: str, value: Option | Sequence[float], minimum: float = 0.0, strict: bool = True) -> None:
        """Stores a numeric option after checking its range; a sequence holds one value per leading batch entry.

        `ranges[name]` keeps (minimum, strict), by which a schedule may change the option later.

        Raises:
            ValueError: when a value is not finite, below `minimum`, or equal to it while `strict`.
        """
        self.ranges[name] = (minimum, strict)
        if isinstance(value, int | float):  # without a tensor, which the compiler could not look into
            if not (math.isfinite(value) and (value > minimum if strict else value >= minimum)):
                raise _out_of_range(self, name, value, minimum, strict)
            setattr(self, name, float(value))
            return
        values = self.option_values(name, value, minimum, strict)
        if values.dim() == 0:
            setattr(self, name, float(values))
        else:
            self.register_buffer(name, self.as_made_here(values), persistent=False)

    def whole(self, name: str, value: int, least: int, purpose: str = "") -> int:
        """Returns the option `name` where it is a whole number, `least` or more; `purpose` says what for.

        Raises:
            ValueError: when it is none.
        """
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not (is_whole and value >= least):
            rule = f"at least {least}{purpose}" if is_whole else "a whole number"
            raise Refusal(f"{type(self).__name__}: {name} must be {rule}; given {value!r}")
        return int(value)

    def option_values(self, name: str, value: Option | Sequence[float], minimum: float, strict: bool) -> Tensor:
        """The checked values of a numeric option, for `option` and for parameters that start at one."""
        try:
            made = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64, device="cpu")
        except (TypeError, ValueError, RuntimeError):
            rule = f"{type(self).__name__}: {name} must be a number, or one for each row"
            raise Refusal(f"{rule}; given {value!r}") from None
        values = made.detach()
        allowed = torch.isfinite(values) & ((values > minimum) if strict else (values >= minimum))
        if not allowed.all() or not len(allowed.flatten()):
            raise _out_of_range(self, name, value, minimum, strict)
        return values

    @staticmethod
    def as_made_here(values: Tensor) -> Tensor:
        """Numbers as a factory function of torch would make them: new, with the present default dtype and device."""
        return values.to(dtype=torch.get_default_dtype(), device=torch.get_default_device(), copy=True)

    def _many_categories(self) -> str:
        return "LeaveOneOut and DisArmTree serve any number"

    def validates(self, logits: Tensor) -> bool:
        """Whether values of these logits are checked: see `validate`."""
        if not categorical.plain_call() or logits.numel() == 0:
            return False
        return logits.device.type == "cpu" if self.validate is None else self.validate

    def _check_coupling(self, logits: Tensor, f: Loss) -> None:
        """Asks f whether rows and draws are judged by themselves."""
        if self._asks() and categorical.plain_call():
            check_coupling(partial(evaluate, f), logits, self._draws_beside)

    def _asks(self) -> bool:
        return self.validate is True


def _out_of_range(estimator: Estimator, name: str, value: Any, minimum: float, strict: bool) -> Refusal:
    rule = f"greater than {minimum:g}" if strict else f"at least {minimum:g}"
    return Refusal(f"{type(estimator).__name__}: {name} must be {rule} and finite; given {value}")


def _after(lessons: list[Lesson], estimate: Tensor, own: list[nn.Parameter], c: Tensor) -> Sequence[Tensor | None]:
    """Gives the lessons and returns the own parameters' gradients, for the upstream gradient c of the loss `[*batch]`.

    These are sum |c| times those of the mean of |estimate|^2, by which learnt control variates train. Rows with c = 0
    count for nothing, and of the others those that are not finite.
    """
    used = c != 0
    for lesson in lessons:
        lesson(used)
    if not own or not estimate.requires_grad:
        return [None] * len(own)
    used = used & torch.isfinite(estimate).all(dim=-1).all(dim=-1)
    with torch.enable_grad():
        square = torch.where(used[..., None, None], estimate, 0).square().sum() / used.sum().clamp(min=1)
    found = torch.autograd.grad(square, own, c.abs().sum().to(square.dtype), retain_graph=True, allow_unused=True)
    return [x if x is None else x.flatten().view_as(x) for x in found]  # DDP warns of strides unlike the weights'
