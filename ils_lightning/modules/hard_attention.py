"""A classifier that looks at a few patches of an image and chooses each by what it has seen: hard attention.

    z_t ~ q(look(state_{t-1})), q mostly softmax;   patch_t = sum_k z_tk patch_k,
    state_t = GRU(state_{t-1}, [patch_t, z_t])
    loss = -log p(label | state_T)

The choice is a line inside an ordinary network, the draw `sample(logits)` in its drop-in form; the loss knows nothing
of it. A choice that depends on earlier draws needs no nested losses in this form.

Source: the task of V. Mnih et al., Recurrent Models of Visual Attention, 2014, 1406.6247, with a grid of patches.
"""

from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam
from torchmetrics import MeanMetric

from ils_lightning import plots
from ils_lightning.data.images import Images
from ils_lightning.describe import create, describe, in_words
from ils_lightning.errors import Refusal, require_at_least
from ils_lightning.estimators import Sampler
from ils_lightning.estimators.categorical import indices
from ils_lightning.modules.base import Charts, Tracked
from ils_lightning.modules.measured import Measured
from ils_lightning.modules.meets_data import IMAGE_SHAPE

_SHOWN = 8  # images in a picture


class HardAttention(Measured):
    """Learns where to look and what it is, from `glimpses` patches of each image.

    Samplers only: estimators that evaluate a loss more than once (LeaveOneOut, Rebar) need `estimator(logits, f)`.
    The sampler sees the gradient as it arrives, divided by the batch: I-MLE and published ILS, which are not linear in
    it, act as if their step were smaller by that factor.

    Args:
        estimator: any sampler; every glimpse has one of its own, made alike, for some learn.
        glimpses: patches looked at.
        patch: side of a square patch in pixels; must divide height and width.
        hidden: units of the recurrent state.
        classes: labels, from 0.
        image_shape: [channels, height, width]; taken from the data unless given.
        optimizer: Adam with learning rate 0.003 unless given.
        lr_scheduler: none unless given.

    Example:
        >>> from ils_lightning.estimators import ReinMax
        >>> model = HardAttention(estimator=ReinMax(), image_shape=[1, 8, 8])
        >>> logits, seen = model(torch.rand(5, 1, 8, 8))
        >>> logits.shape, seen.shape
        (torch.Size([5, 10]), torch.Size([5, 4, 16]))
    """

    image_shape: tuple[int, ...] = ()
    sized_by = IMAGE_SHAPE
    monitor = "val/error"
    test_after_fit = True
    tracked: Tracked = Tracked("loss", "-log p(label), training images (nats)")
    charts: ClassVar[Charts] = {
        "objective": {"-log p(label) (nats)": ["train/loss", "val/loss"], "wrong answers": ["val/error"]}
    }

    def __init__(
        self,
        estimator: Sampler,
        glimpses: int = 4,
        patch: int = 2,
        hidden: int = 64,
        classes: int = 10,
        image_shape: list[int] | None = None,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=0.003),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(create(estimator, Sampler), optimizer, lr_scheduler)
        if not isinstance(self.estimator, Sampler):
            raise Refusal(
                "HardAttention draws by estimator.sample(logits), which samplers have (ReinMax, ILSNewton, "
                f"StraightThrough); given {type(self.estimator).__name__}"
            )
        require_at_least(1, "HardAttention", glimpses=glimpses, patch=patch, hidden=hidden, classes=classes)
        self.glimpses, self.patch, self.hidden, self.classes = glimpses, patch, hidden, classes
        self.save_hyperparameters(ignore=["estimator"])
        self.make_hyperparameters_plain(estimator=self.estimator)
        copies = [create(describe(self.estimator), Sampler) for _ in range(glimpses - 1)]
        self.samplers = nn.ModuleList([self.estimator, *copies])
        self.metrics = nn.ModuleDict({"loss": MeanMetric(), "error": MeanMetric()})
        self._images: Images | None = None
        self.prepare_curve()
        if image_shape:
            self.build(image_shape)

    def make(self, size: tuple[int, ...]) -> None:
        """Makes the layers for images [channels, height, width].

        Raises:
            ValueError: when patches do not cover them.
        """
        channels, height, width = size
        if height % self.patch or width % self.patch:
            raise Refusal(
                f"HardAttention: patch must divide height and width of {height}x{width} images; given {self.patch}"
            )
        self.places = height * width // self.patch**2
        self.start = nn.Parameter(torch.zeros(self.hidden))
        self.look = nn.Linear(self.hidden, self.places)
        self.recurrent = nn.GRUCell(channels * self.patch**2 + self.places, self.hidden)
        self.classify = nn.Linear(self.hidden, self.classes)
        for sampler in self.samplers:
            sampler.build(1, self.places)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Looks at images x `[batch, channels, height, width]`.

        Returns:
            Logits of the label `[batch, classes]` and where it looked, one-hot `[batch, glimpses, places]`.
        """
        patches = functional.unfold(x, self.patch, stride=self.patch).mT  # [batch, places, pixels]
        state, seen = self.start.expand(len(x), -1), []
        for sampler in self.samplers:
            z = self._sample(sampler, self.look(state).unsqueeze(-2))  # [batch, 1, places]
            glimpse = (z @ patches).squeeze(-2)
            state = self.recurrent(torch.cat([glimpse, z.squeeze(-2)], dim=-1), state)
            seen.append(z)
        return self.classify(state), torch.cat(seen, dim=-2)

    def _sample(self, sampler: Any, logits: Tensor) -> Tensor:
        """The estimator's draw while it trains, an exact one of its distribution otherwise."""
        return sampler.sample(logits) if self.training else sampler.distribution(logits).draw().to(logits.dtype)

    def training_step(self, batch: Images) -> Tensor:
        """Returns the loss."""
        loss = functional.cross_entropy(self(batch.x)[0], batch.label, reduction="none")
        self.log_training(loss)
        return loss.mean()

    def predict_step(self, batch: Images) -> dict[str, Tensor]:
        """Returns answers `[batch]` and the places looked at, in order: `[batch, glimpses]`, or sets in its rows."""
        logits, seen = self(batch.x)
        return {"label": logits.argmax(dim=-1), "places": indices(seen, self.estimator.ones)}

    def measure(self, batch: Images) -> None:
        """Measures answers from drawn glimpses."""
        metrics: Any = self.metrics
        logits = self(batch.x)[0]
        metrics["loss"].update(functional.cross_entropy(logits, batch.label, reduction="none"))
        metrics["error"].update((logits.argmax(dim=-1) != batch.label).float())
        if self._images is None:
            self._images = Images(*(part[:_SHOWN] for part in batch))

    def figures(self) -> dict[str, Figure]:
        """Images, and below each what was seen of it after every glimpse."""
        if self._images is None:
            return {}
        x = self._images.x.to(self.device)
        mode = self.training
        self.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            logits, seen = self(x)
        self.train(mode)
        open_places = seen.cumsum(dim=1).clamp(max=1).unflatten(-1, (x.shape[2] // self.patch, -1))
        masks = open_places.repeat_interleave(self.patch, dim=-2).repeat_interleave(self.patch, dim=-1)
        shown = x.unsqueeze(1) * masks.unsqueeze(2) + 0.35 * (1 - masks.unsqueeze(2))  # [images, glimpses, ...]
        rows = torch.cat([x.unsqueeze(1), shown], dim=1).transpose(0, 1).cpu()
        labels = ["image", *(f"{number} seen" for number in range(1, self.glimpses + 1))]
        answers = [str(answer) for answer in logits.argmax(dim=-1).tolist()]
        return {"glimpses": plots.image_grid(rows, "what was seen, and the answer", labels, answers)}

    def summary(self) -> dict[str, str]:
        """Wrong answers on validation images."""
        rows = {"estimator": in_words(self.estimator)}
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        if "val/error" in found:
            rows["validation"] = f"{found['val/error']:.1%} wrong answers from {self.glimpses} of {self.places} patches"
        return rows | self.summary_of_data()
