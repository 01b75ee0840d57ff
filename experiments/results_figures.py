"""Draws the rankings of docs/results anew from the CSVs beside them: `python experiments/results_figures.py`."""

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from jsonargparse import auto_cli
from results_files import ROOT, lines, read

from ils_lightning import plots
from ils_lightning.compare.grid import spec
from ils_lightning.compare.report import ranking
from ils_lightning.compare.report.table import Row

TOKENISERS = ("tokenizer_fashion", "tokenizer_fashion_512")
RANKED = ("vae_digits", "vae_mnist", "listops", "relational", *TOKENISERS, "world_model")


def rows(name: str, measure: str) -> list[Row]:
    """Returns mean and standard error of every run of docs/results/NAME.csv, from best to worst under each setting."""
    found = []
    lost = {(line["run"], line["setting"]): line["failed"] for line in lines(name) if line.get("failed")}
    for setting, runs in read(name, measure).items():
        mine = []
        for run, seeds in runs.items():
            error = stdev(seeds.values()) / len(seeds) ** 0.5 if len(seeds) > 1 else float("nan")
            mean = fmean(seeds.values())
            facts: Any = {"seeds": len(seeds), "measured": mean, "standard_error": error}
            mine.append(Row(run, setting, measure=measure, failed=lost.get((run, setting), ""), **facts))
        found += sorted(mine, key=lambda row: row.measured)
    return found


def main(names: tuple[str, ...] = RANKED, folder: Path = ROOT / "docs" / "results") -> None:
    """Draws the rankings.

    Args:
        names: of the CSVs, which are those of the comparisons.
        folder: where the pictures go.
    """
    for name in names:
        comparison = spec.read(f"compare/{name}")
        figure = ranking.draw(comparison, rows(name, comparison.measure or "plateau"))
        with plots.style():
            figure.savefig(folder / f"{name}.png", dpi=150)
        print(folder / f"{name}.png")


if __name__ == "__main__":
    auto_cli(main)
