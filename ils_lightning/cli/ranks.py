"""Ranks that end with each other: one whose first rank is gone would wait half an hour for its address."""

import os
import re
import threading
import time

_FIRST = "ILS_LIGHTNING_FIRST_RANK"  # in the environment that the strategy ddp hands to the ranks it starts


def end_with_the_process_that_started_me() -> None:
    """Ends this process, if it is a rank that another process started, soon after that one is gone.

    Without it, a rank started by Lightning or torchrun while these are killed waits for a peer that never comes.
    """
    if "LOCAL_RANK" not in os.environ:
        os.environ[_FIRST] = str(os.getpid())
        return
    parent = os.getppid()
    by_lightning = "TORCHELASTIC_RUN_ID" not in os.environ
    if by_lightning and not _runs(int(os.environ.get(_FIRST, parent))):
        os._exit(1)  # it was killed before this line was reached
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def lost_another(error: RuntimeError) -> str | None:
    """Says so if a rank that this one works with has ended."""
    lost = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
    if not any(words in str(error) for words in lost):
        return None
    return "another rank of this run has ended, and this one ends with it. What was saved before stays"


def refusal_of_a_fork(error: BaseException) -> str | None:
    """Returns what a rank was refused for that was started by ddp_fork or ddp_spawn, which hand on a text only.

    None where it was another error, or none of such a rank.
    """
    if type(error).__name__ != "ProcessRaisedException":
        return None
    *_, end = re.split(r'^  File "', str(error), flags=re.MULTILINE)
    rest = end.partition('"')[2]
    found = re.search(r"^(?:[\w.]+\.)?(\w+): (.*)", rest, re.MULTILINE | re.DOTALL)
    if found is None:
        return None
    if found[1] in ("Refusal", "DescriptionError", "MisconfigurationException"):
        return found[2]
    disk = found[1] in ("OSError", "FileNotFoundError", "PermissionError", "NotADirectoryError", "IsADirectoryError")
    return f"cannot read or write: {found[2]}. What was saved before stays" if disk else None


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
