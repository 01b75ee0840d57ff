"""How a worker of a comparison begins: it ends with the comparison from its first moment on.

So nothing large is imported here: that takes seconds, in which a comparison that is killed cannot tell its workers.
"""

import gc
import multiprocessing
import os
import signal
import threading
from importlib import import_module
from multiprocessing import connection
from typing import Any

counter: Any = None
"""Shares of jobs done, summed over all workers."""


def begin(shares: Any, module: str) -> None:
    """Prepares a worker: watches the process that started it, and imports `module`, which holds what it works by.

    HUP is left to the comparison, which ends its workers by TERM.
    """
    global counter
    counter = shares
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    import_module(module)
    gc.freeze()


def count(share: float) -> None:
    """Adds a share of a job that is newly done."""
    with counter.get_lock():
        counter.value += share


def _end_with_parent() -> None:
    """Ends this worker when the comparison is killed, which cannot tell it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
