"""Rows of the result tables, by the estimator that each run was made with."""

import csv
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml

from ils_lightning.packaged import folder

RESULTS = Path(__file__).parent.parent / "results"
_ESTIMATOR = "model.init_args.estimator"
_OF_CURVES = {
    "polynomial": ("last", "distance to the optimum at the end"),
    "toy1_energy": ("plateau", "plateau of KL / 5"),
}
"""Of comparisons that rank by a curve: the column that their page shows, and what it is."""


@dataclass(frozen=True)
class Result:
    """One run at one setting, over its seeds.

    Args:
        table: name of the comparison.
        title: what the comparison measures.
        run: name of the run.
        setting: what it was repeated for; empty where there is one only.
        values: the measure for each seed that finished, less being better.
        place: among the runs of the setting, the best being 1.
        runs: how many runs the setting has.
        best: the run at place 1, and its mean.
    """

    table: str
    title: str
    run: str
    setting: str
    values: tuple[float, ...]
    place: int
    runs: int
    best: tuple[str, float]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return fmean(self.values)

    @property
    def error(self) -> float:
        """The standard error of the mean; NaN for a single seed."""
        return stdev(self.values) / len(self.values) ** 0.5 if len(self.values) > 1 else float("nan")


@cache
def page(table: str) -> str:
    """The page that a table stands on, from that of a card; the overview of results, where none says so."""
    docs = RESULTS.parent
    pages = [docs / "toy.md", *sorted(RESULTS.glob("*.md"))]
    found = [page for page in pages if f"<!-- table: {table} -->" in page.read_text(encoding="utf-8")]
    return f"../{(found or [docs / 'results.md'])[0].relative_to(docs)}"


@cache
def by_class() -> dict[str, list[Result]]:
    """Returns the rows of all tables, by the name of the estimator's class."""
    found: dict[str, list[Result]] = defaultdict(list)
    for path in sorted(RESULTS.glob("*.csv")):
        file = folder() / "compare" / f"{path.stem}.yaml"
        described = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if path.stem in _OF_CURVES or "measure" in described:
            of = {run["name"]: _class(run) for run in described["runs"]}
            for result in _ranked(path, described):
                if kind := of.get(result.run):
                    found[kind].append(result)
    return found


def _class(run: dict[str, Any]) -> str:
    estimator = run.get("change", {}).get(_ESTIMATOR, {})
    return estimator.get("class_path", "").rpartition(".")[-1] if isinstance(estimator, dict) else ""


def _ranked(path: Path, described: dict[str, Any]) -> list[Result]:
    """The runs of one table at each setting, the best first."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    column, label = _OF_CURVES.get(path.stem) or (described.get("measure", "plateau"), "")
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row[column] and not row.get("failed"):
                values[row["setting"]][row["run"]].append(float(row[column]))
    found = []
    for setting, runs in values.items():
        order = sorted(runs, key=lambda run: fmean(runs[run]))
        best = (order[0], fmean(runs[order[0]]))
        for place, run in enumerate(order, 1):
            title = f"{described['title']}; {label}" if label else described["title"]
            found.append(Result(path.stem, title, run, setting, tuple(runs[run]), place, len(order), best))
    return found
