"""Standard output and error that may be closed, from the beginning (`>&-`) or by a reader that ends (`| head -1`)."""

import io
import os
import stat
import sys
from typing import Any


class _Enduring(io.FileIO):
    """A pipe that is written to as long as somebody reads it: a run goes on when what shows it ends."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content) or 0
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(memoryview(content).cast("B"))


def endure() -> None:
    """Lets this process go on where its output has no reader."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif stat.S_ISFIFO(os.fstat(number).st_mode):
            pipe = io.BufferedWriter(_Enduring(number, "w", closefd=False))
            line_buffering = stream.line_buffering
            setattr(sys, name, io.TextIOWrapper(pipe, stream.encoding, stream.errors, None, line_buffering))
