"""The IDX format of the MNIST family: two zero bytes, a type, the number of axes, big-endian sizes, the values."""

import math
import struct

import numpy as np
from numpy.typing import NDArray

from ils_lightning.errors import Refusal

_UINT8 = 0x08


def from_idx(content: bytes) -> NDArray[np.uint8]:
    """Returns the array of a file of bytes.

    Raises:
        ValueError: when the header is of another format, or its sizes are not those of the values.

    Example:
        >>> from_idx(to_idx(np.arange(6, dtype=np.uint8).reshape(2, 3)))
        array([[0, 1, 2],
               [3, 4, 5]], dtype=uint8)
    """
    if len(content) < 4 or content[:3] != bytes([0, 0, _UINT8]):
        raise Refusal(f"an IDX file of bytes starts with 0, 0, 8; given {list(content[:3])}")
    first = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:first])
    if len(content) != first + math.prod(shape):
        raise Refusal(f"an IDX file of shape {shape} has {first + math.prod(shape)} bytes; given {len(content)}")
    return np.frombuffer(content, np.uint8, offset=first).reshape(shape).copy()


def to_idx(array: NDArray[np.uint8]) -> bytes:
    """Returns the file that holds `array`."""
    return struct.pack(f">HBB{array.ndim}I", 0, _UINT8, array.ndim, *array.shape) + array.tobytes()
