"""The base of the networks: the layers are made when the sizes are known, any leading axes are folded into one."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ils_lightning.describe import Described
from ils_lightning.errors import Refusal


class Network(Described, nn.Module):
    """Maps `[*any, *inputs]` to `[*any, *outputs]`. Subclasses write `make`.

    Attributes:
        inputs: axes of one example, from `build`; empty before.
        outputs: axes of one answer.
    """

    _abstract = True

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()

    def make(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> nn.Sequential:
        """Returns layers `[batch, *inputs]` to `[batch, *outputs]`.

        The last has a `bias` of as many values as one answer, in the same order, which it adds last.
        """
        raise NotImplementedError(f"{type(self).__name__} must define make(inputs, outputs)")

    def build(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Makes the layers, once; sizes are those of one example, without batch axes.

        Raises:
            ValueError: when it was built with other sizes, or when no such network can be made.
        """
        inputs, outputs = tuple(inputs), tuple(outputs)
        if not self.inputs:
            self.layers = self.make(inputs, outputs)
            self.inputs, self.outputs = inputs, outputs
        elif (inputs, outputs) != (self.inputs, self.outputs):
            raise Refusal(
                f"{type(self).__name__} keeps the sizes it was built with, {list(self.inputs)} to "
                f"{list(self.outputs)}; given {list(inputs)} to {list(outputs)}"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[*any, *inputs]` to `[*any, *outputs]`.

        Raises:
            ValueError: before `build`, and when the last axes are not `inputs`.
        """
        self._check_built()
        leading = x.shape[: x.dim() - len(self.inputs)]
        if x.shape != (*leading, *self.inputs):
            raise Refusal(
                f"{type(self).__name__} was built for x [*any, *inputs] with inputs = {list(self.inputs)}; "
                f"given {list(x.shape)}"
            )
        x = x.to(next(self.parameters()).dtype)  # draws are float32 at least, weights may be less
        answer = self.layers(x.reshape(math.prod(leading), *self.inputs))
        return answer.reshape(*leading, *self.outputs)

    def set_output_bias(self, bias: Tensor) -> None:
        """Sets what is added last to `bias` `[*outputs]`, such as the data's mean as a likelihood states it.

        Raises:
            ValueError: before `build`, and for any other shape.
        """
        self._check_built()
        if bias.shape != self.outputs:
            raise Refusal(
                f"{type(self).__name__}: the output bias must be [*outputs] = {list(self.outputs)}; "
                f"given {list(bias.shape)}"
            )
        with torch.no_grad():
            own = self.layers[-1].get_parameter("bias")
            own.copy_(bias.reshape(own.shape))

    def _check_built(self) -> None:
        if not self.inputs:
            raise Refusal(f"{type(self).__name__} has no layers before build(inputs, outputs) names the sizes")
