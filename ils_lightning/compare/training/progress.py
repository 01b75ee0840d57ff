"""The bar of a comparison: how many trainings are done, and how long the others will take."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def bar() -> Progress:
    """Returns a bar, to be entered while trainings run."""
    done = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    return Progress(*done, TimeElapsedColumn(), TimeRemainingColumn())
