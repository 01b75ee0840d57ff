"""What unbiased estimators that compare several draws of a row have in common."""

from typing import ClassVar

from ils_lightning.estimators.base import Estimator


class Several(Estimator):
    """Evaluates f at `samples` draws a row, at least two; subclasses write `estimate`.

    Attributes:
        purpose: why one draw is too few, for the error message.
    """

    _abstract = True

    cost = "S"
    unbiased = True
    exact_for = "all"
    purpose: ClassVar[str] = "to leave one out"

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.samples = self.whole("samples", samples, 2, f", {self.purpose}")

    def evaluations(self, latents: int, categories: int) -> int:
        return self.samples
