"""Prints how often intervals of a gradient report hold the truth: `python tests/interval_table.py --help`.

The truth is bias and variance by enumeration of the draws themselves, on random problems that can be enumerated.
"""

from jsonargparse import auto_cli
from test_diagnose_intervals import MADE, covered


def main(problems: int = 200, draws: int = 2000) -> None:
    """Prints the shares, by estimator.

    Args:
        problems: random problems.
        draws: estimates of each.
    """
    inside = covered(range(problems), draws).double().mean(dim=0)
    print("| estimator | bias | variance |\n| --- | --- | --- |")
    for name, (bias, variance) in zip([*MADE, "all"], [*inside.tolist(), inside.mean(dim=0).tolist()], strict=True):
        print(f"| {name} | {bias:.1%} | {variance:.1%} |")


if __name__ == "__main__":
    auto_cli(main)
