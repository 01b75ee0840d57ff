"""A report as data: a row for each estimator, and what they were measured on."""

from dataclasses import dataclass, field
from typing import Literal

_NAN = float("nan")


@dataclass(repr=False)
class Row:
    """One estimator. Bias and variance are relative to the gradient; `_low` and `_high` end 95 per cent intervals.

    Attributes:
        name: of the estimator, with the options that were given.
        relative_bias: |E e - G| / |G|.
        relative_variance: E |e - E e|^2 / |G|^2.
        cosine: of E e with G.
        cosine_of_one: expected cosine of one estimate with G; `cosines` has that of the average of n.
        length: |E e| / |G|.
        snr: |E e| / sqrt(E |e - E e|^2).
        value_bias: expected loss it returns, less E f; mean over rows.
        evaluations: of f for one estimate of a row.
        seconds: of one estimate of the batch.
        bytes: at the peak of one estimate of the batch, beside model and data.
        variance_times_cost: relative variance times evaluations.
        error: |average - G| / |G|, root mean square, of the estimates that `average` evaluations of f buy.
        scaled_error: the least such error of a multiple of the average, sqrt(1 - cosine^2 / (1 + 1 / (n SNR^2))) for
            the n estimates that are averaged, 1 where the cosine is negative: what is left where the step size is free.
        scale: the multiple.
        draws: estimates measured.
        not_applicable: why nothing was measured; empty where something was.
    """

    name: str
    relative_bias: float = _NAN
    relative_bias_low: float = _NAN
    relative_bias_high: float = _NAN
    relative_variance: float = _NAN
    relative_variance_low: float = _NAN
    relative_variance_high: float = _NAN
    cosine: float = _NAN
    cosine_of_one: float = _NAN
    cosine_of_one_low: float = _NAN
    cosine_of_one_high: float = _NAN
    length: float = _NAN
    snr: float = _NAN
    value_bias: float = _NAN
    value_bias_low: float = _NAN
    value_bias_high: float = _NAN
    evaluations: int = 0
    seconds: float = _NAN
    bytes: int = 0
    variance_times_cost: float = _NAN
    error: float = _NAN
    error_low: float = _NAN
    error_high: float = _NAN
    scaled_error: float = _NAN
    scale: float = _NAN
    draws: int = 0
    not_applicable: str = ""
    cosines: dict[int, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        if self.not_applicable:
            return f"Row({self.name!r}, not_applicable={self.not_applicable!r})"
        shown = ("relative_bias", "relative_variance", "cosine", "evaluations", "error", "draws")
        return f"Row({self.name!r}, {', '.join(f'{name}={getattr(self, name):.4g}' for name in shown)})"

    @property
    def noise(self) -> float:
        """Root of the relative variance: of the same unit as the bias."""
        return self.relative_variance**0.5

    def error_after(self, evaluations: float, end: Literal["", "_low", "_high"] = "") -> float:
        """Relative error of the average of the estimates that so many evaluations of f buy, one at least."""
        estimates = self._estimates(evaluations)
        bias, variance = getattr(self, f"relative_bias{end}"), getattr(self, f"relative_variance{end}")
        return (bias**2 + variance / estimates) ** 0.5

    def scaled_error_after(self, evaluations: float) -> float:
        """Relative error of the best multiple of that average (see `scaled_error`)."""
        return max(0.0, 1 - max(0.0, self.cosine) ** 2 * self._signal(evaluations)) ** 0.5

    def scale_after(self, evaluations: float) -> float:
        """The best multiple: cosine / (length * (1 + 1 / (n SNR^2)))."""
        return max(0.0, self.cosine) * self._signal(evaluations) / self.length if self.length > 0 else 0.0

    def _estimates(self, evaluations: float) -> float:
        return max(1.0, evaluations / self.evaluations)

    def _signal(self, evaluations: float) -> float:
        """|E e|^2 as a share of the mean square length of the average."""
        strength = self._estimates(evaluations) * self.snr**2
        return strength / (1 + strength) if strength < float("inf") else 1.0


@dataclass(repr=False)
class GradientReport:
    """Rows, best first and those that do not apply last, and what they were measured on.

    Printed, it is a table of 80 columns; in a notebook a wider one.
    """

    rows: list[Row]
    title: str
    truth: str
    latents: int
    categories: int
    batch: int
    loss: float
    draws: int
    average: int
    seed: int
    remark: str = ""

    def __repr__(self) -> str:
        title, names = f"{self.title!r}, " if self.title else "", [row.name for row in self.rows]
        return f"{type(self).__name__}({title}{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}; {self.truth})"

    def __str__(self) -> str:
        from ils_lightning.diagnose.tables import in_text  # made of reports, so it imports this module

        return in_text(self)

    def _repr_html_(self) -> str:
        from ils_lightning.diagnose.page import in_notebook

        return in_notebook(self)

    @property
    def applicable(self) -> list[Row]:
        """The rows that were measured."""
        return [row for row in self.rows if not row.not_applicable]
