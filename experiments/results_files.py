"""What docs/results/*.csv say: of every seed, and beside a reference paired by seed."""

import csv
from collections import defaultdict
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from ils_lightning.tables import markdown

ROOT = Path(__file__).parent.parent
PM = "\u00a0±\u00a0"  # does not break in a cell

Seeds = dict[str, float]
Results = dict[str, dict[str, Seeds]]
"""The measure of every seed, by setting and run."""


def read(name: str, measure: str, factor: float = 1.0) -> Results:
    """Returns what docs/results/NAME.csv says of a measure, runs in the order of the file, without what diverged."""
    results: Results = defaultdict(lambda: defaultdict(dict))
    for row in lines(name):
        if row[measure] and not row.get("failed"):
            results[row["setting"]][row["run"]][row["seed"]] = factor * float(row[measure])
    return results


def lines(name: str) -> list[dict[str, str]]:
    """Returns the lines of docs/results/NAME.csv."""
    with (ROOT / "docs" / "results" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def paired(seeds: Seeds, reference: Seeds) -> tuple[float, float]:
    """Mean and standard error of the differences of equal seeds."""
    differences = [value - reference[seed] for seed, value in seeds.items() if seed in reference]
    return fmean(differences), stdev(differences) / sqrt(len(differences))


def against(name: str, measure: str, reference: str) -> str:
    """Means of every run and setting, the lowest bold, with differences to the reference, paired by seed."""
    results = read(name, measure)
    settings = list(results)
    means = {s: {run: fmean(seeds.values()) for run, seeds in results[s].items()} for s in settings}
    runs = list(dict.fromkeys(run for s in settings for run in results[s]))
    first = {run: next(i for i, s in enumerate(settings) if run in means[s]) for run in runs}
    runs.sort(key=lambda run: (first[run], means[settings[first[run]]][run]))

    def cell(run: str, setting: str) -> str:
        if run not in means[setting]:
            return ""
        mean = f"{means[setting][run]:.2f}"
        mean = f"**{mean}**" if means[setting][run] == min(means[setting].values()) else mean
        if run == reference:
            return mean
        difference, error = paired(results[setting][run], results[setting][reference])
        return f"{mean} ({difference:+.2g}{PM}{error:.2g})"

    return markdown(["run", *settings], [[run, *(cell(run, s) for s in settings)] for run in runs])


def beside(seeds: Seeds, reference: Seeds, digits: int = 3) -> str:
    """The difference of equal seeds to the reference, with its standard error from two seeds on."""
    common = [seed for seed in seeds if seed in reference]
    if seeds is reference or not common:
        return ""
    if len(common) == 1:
        return f"{seeds[common[0]] - reference[common[0]]:+.{digits}f}"
    difference, error = paired(seeds, reference)
    return f"{difference:+.{digits}f}{PM}{error:.{digits}f}"


def decimals(cell: str) -> str:
    """A number of a CSV, where there is one."""
    return "" if cell in ("", "nan") else f"{float(cell):.3f}"


def ends(name: str, reference: str, training: str = "plateau") -> str:
    """Where long trainings end: means, and differences to the reference paired by the seeds that both have."""
    measures = {"training": training, "test -ELBO": "test/loss", "bound, test": "test/iwae"}
    found = {measure: read(name, measure) for measure in measures.values()}
    rows = []
    for setting, results in found["test/loss"].items():
        for run, seeds in results.items():
            cells = [run, *([setting] if setting else []), ", ".join(seeds)]
            for measure in measures.values():
                of_run, of_reference = found[measure][setting][run], found[measure][setting][reference]
                mean, difference = f"{fmean(of_run.values()):.2f}", beside(of_run, of_reference, 2)
                cells.append(f"{mean} ({difference})" if difference else mean)
            rows.append(cells)
    return markdown(["run", *(["setting"] if "" not in found["test/loss"] else []), "seeds", *measures], rows)
