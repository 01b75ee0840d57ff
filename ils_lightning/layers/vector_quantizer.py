"""What every quantiser of vectors has in common, ours and those of other packages."""

from torch import Tensor, nn

from ils_lightning.describe import Described


class VectorQuantizer(Described, nn.Module):
    """Replaces vectors by codes: `quantized, indices, loss = quantizer(x)`. A subclass defines both methods.

    Attributes:
        dim: width of the vectors.
        codebook_size: number of codes.
    """

    _abstract = True

    dim: int
    codebook_size: int

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what stands for x `[batch, *any, dim]`, its codes `[batch, *any]`, and a loss, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x)")

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Returns the vectors `[batch, *any, dim]` of codes `[batch, *any]`, as `forward` returns them."""
        raise NotImplementedError(f"{type(self).__name__} must define indices_to_codes(indices)")
