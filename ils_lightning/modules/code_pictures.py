"""Pictures of what discrete codes of images stand for."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning import LightningModule
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn

from ils_lightning import plots

_SHOWN = 8  # images in a row, and latents of a traversal
_COLUMNS = 16  # categories of a traversal


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, inside the block only."""
    mode = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(mode)


class CodePictures(LightningModule):
    """Mixin of image models: reconstructions, samples of the prior, and the traversal of a code.

    Models write `most_probable`, `image_of` and `sample`, and `remember` the images to show.
    """

    latents: int
    categories: int
    _images: Tensor | None = None

    def most_probable(self, x: Tensor) -> Tensor:
        """Returns the most probable codes of images: `[batch, latents]`, or `[batch, latents, ones]` where sets."""
        raise NotImplementedError(f"{type(self).__name__} must define most_probable(x)")

    def image_of(self, codes: Tensor) -> Tensor:
        """Returns the mean images `[*any, channels, height, width]` of codes as `most_probable` gives them."""
        raise NotImplementedError(f"{type(self).__name__} must define image_of(codes)")

    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        """Returns mean images `[count, channels, height, width]` of codes drawn from the prior."""
        raise NotImplementedError(f"{type(self).__name__} must define sample(count, generator)")

    def remember(self, x: Tensor) -> None:
        """Keeps the first images of a batch for pictures."""
        self._images = x[:_SHOWN]

    def figures(self) -> dict[str, Figure]:
        """Reconstructions of images (of their most probable codes), samples of the prior, and a code's traversal."""
        if self._images is None:
            return {}
        with evaluating(self):
            x = self._images.to(self.device)
            codes = self.most_probable(x)
            again = self.image_of(codes)
            samples = self.sample(_SHOWN**2, torch.Generator(self.device).manual_seed(0))
            traversal, latents = self.traversal(codes[0])
        rows = [f"latent {latent}" for latent in latents.tolist()]
        columns = [str(category) for category in range(traversal.shape[1])]
        grids: tuple[tuple[str, Tensor, str, list[str], list[str]], ...] = (
            ("reconstructions", torch.stack([x, again]), "images, and what their most probable codes mean", [], []),
            ("samples", samples.unflatten(0, (_SHOWN, _SHOWN)), "images of codes drawn from the prior", [], []),
            ("traversal", traversal, "the first image's code with one latent set to each category", rows, columns),
        )
        return {
            name: plots.image_grid(images.float().cpu(), title, labels, numbers)
            for name, images, title, labels, numbers in grids
        }

    def traversal(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Changes one latent of an image's `codes` at a time, to each category (the first 16 at most).

        Where a code is a set of categories, to each category and those that follow it.

        Returns:
            The images `[rows, categories, channels, height, width]` of the latents, 8 at most, that change the image
            most, and the numbers of these latents `[rows]`.
        """
        spread = torch.stack(
            [self._turned(codes, latent).var(dim=0, correction=0).sum() for latent in range(self.latents)]
        )
        chosen = spread.topk(min(_SHOWN, self.latents)).indices.sort().values
        return torch.stack([self._turned(codes, latent) for latent in chosen.tolist()]), chosen

    def _turned(self, codes: Tensor, latent: int) -> Tensor:
        count = min(_COLUMNS, self.categories)
        changed = codes.expand(count, *codes.shape).clone()
        first = torch.arange(count, device=codes.device)
        following = torch.arange(codes.shape[-1], device=codes.device)
        changed[:, latent] = first if codes.dim() == 1 else (first.unsqueeze(-1) + following) % self.categories
        return self.image_of(changed)
