"""Quantisers of vectors as others have released them, in the place of a `Quantizer`.

They are those of the package vector-quantize-pytorch:

    VectorQuantize   the nearest code; codes are moving averages of the vectors they stand for, the encoder has the
                     identity or, with `rotation_trick`, a rotation for its gradient
    SimVQ            the nearest code of a fixed random codebook behind a linear map, which is learnt
    FSQ              each of a few numbers rounded to one of some levels
    LFQ              the signs of a few numbers, with a bonus for entropy

Source: A. van den Oord, O. Vinyals and K. Kavukcuoglu, 2017, 1711.00937; C. Fifty et al., 2024, 2410.06424 (the
rotation); Y. Zhu et al., 2024, 2411.02038 (SimVQ); F. Mentzer et al., 2023, 2309.15505 (FSQ); L. Yu et al., 2023,
2310.05737 (LFQ).
"""

from importlib import import_module
from typing import Any, Literal, get_args

from torch import Tensor

from ils_lightning.errors import Refusal, did_you_mean
from ils_lightning.extras import require
from ils_lightning.layers.vector_quantizer import VectorQuantizer

Released = Literal["VectorQuantize", "SimVQ", "FSQ", "LFQ"]


class ReleasedQuantizer(VectorQuantizer):
    """A quantiser of vector-quantize-pytorch, which `pip install 'ils-lightning[quantizers]'` brings.

    Args:
        name: VectorQuantize | SimVQ | FSQ | LFQ.
        dim: width of the vectors.
        codebook_size: number of codes; of FSQ the product of its levels.
        options: of the released class, by name, such as `levels` of FSQ.

    Raises:
        ValueError: when the package is missing, an option is not known, or the number of codes is another.

    Example:
        >>> import torch
        >>> quantizer = ReleasedQuantizer("FSQ", dim=16, codebook_size=64, options={"levels": [8, 8]})
        >>> quantized, indices, loss = quantizer(torch.randn(2, 10, 16))
        >>> quantized.shape, indices.shape
        (torch.Size([2, 10, 16]), torch.Size([2, 10]))
    """

    def __init__(self, name: Released, dim: int, codebook_size: int, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        if name not in (known := get_args(Released)):
            hint = did_you_mean(str(name), known)
            raise Refusal(f"ReleasedQuantizer: name must be one of {', '.join(known)}; given {name!r}{hint}")
        require("vector_quantize_pytorch", f"ReleasedQuantizer {name}", "quantizers")
        self.name, self.dim, self.codebook_size = name, dim, codebook_size
        self.released = self._made(dict(options or {}))
        if (size := int(self.released.codebook_size)) != codebook_size:
            raise Refusal(f"ReleasedQuantizer: this {name} has {size} codes; given codebook_size {codebook_size}")

    def _made(self, options: dict[str, Any]) -> Any:
        sizes: dict[str, Any] = {"dim": self.dim}
        if self.name != "FSQ":
            sizes["codebook_size"] = self.codebook_size
        try:
            return getattr(import_module("vector_quantize_pytorch"), self.name)(**sizes, **options)
        except (TypeError, AssertionError, ValueError) as error:
            told = " ".join(str(error).split()) or type(error).__name__
            raise Refusal(f"ReleasedQuantizer: {self.name} does not take {sizes | options}: {told}") from None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns vectors, codes and the released loss, 0 where there is none.

        Args:
            x: `[batch, *any, dim]`.
        """
        if x.shape[-1] != self.dim or x.dim() < 3:
            raise Refusal(f"ReleasedQuantizer needs x [batch, *any, dim] with dim = {self.dim}; given {list(x.shape)}")
        quantized, indices, *loss = self.released(x.flatten(1, -2))
        total = loss[0].sum() if loss else x.new_zeros(())
        return quantized.view_as(x), indices.long().view(x.shape[:-1]), total

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Returns the vectors of codes `[batch, *any]`."""
        of = getattr(self.released, "get_output_from_indices", None) or self.released.indices_to_codes
        return of(indices.flatten(1)).unflatten(1, indices.shape[1:])
