"""What a search came to: tables, a figure, and the comparison with the options it chose."""

from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ils_lightning import atomic, packaged, plots, tables
from ils_lightning.compare.grid.spec import ALL
from ils_lightning.compare.report.table import cell
from ils_lightning.compare.tuning import search_figure
from ils_lightning.compare.tuning.tuner import Searched, Tuner

_EDGE = 0.03  # share of a range, at either end, in which a chosen value may mean that better ones lie outside


def report(file: str, tuner: Tuner, folder: Path, console: Console) -> Path:
    """Writes trials.csv, tuned.csv, tuned.yaml and the figure tuning, prints the table; returns tuned.yaml's path."""
    lines = [_line(one, tuner) for one in tuner.searched]
    atomic.write_text(tables.comma_separated(_trials(tuner.searched)), folder / "trials.csv")
    atomic.write_text(tables.comma_separated(lines), folder / "tuned.csv")
    atomic.write_text(_comparison(packaged.load(file, "comparison"), tuner), folder / "tuned.yaml")
    if any(one.study.best() for one in tuner.searched):
        plots.save(search_figure.draw(tuner), folder / "tuning")
    console.print(_table(lines, tuner))
    return folder / "tuned.yaml"


def _trials(searched: list[Searched]) -> list[dict[str, Any]]:
    """A line for each trial, with a column for each key."""
    keys = dict.fromkeys(key for one in searched for key in one.ranges)
    return [
        {"run": one.run.name, "setting": one.setting, "trial": number, "score": trial.score}
        | {"failed": trial.score != trial.score, **{key: trial.values.get(key, "") for key in keys}}
        for one in searched
        for number, trial in enumerate(one.study.trials())
    ]


def _line(one: Searched, tuner: Tuner) -> dict[str, Any]:
    """What was chosen for a run and setting."""
    trials, best = one.study.trials(), one.study.best()
    scores = [trial.score for trial in trials if trial.score == trial.score]
    places = {key: one.ranges[key].place(value) for key, value in best.items()}
    edges = [key.rpartition(".")[2] for key, place in places.items() if not _EDGE <= place <= 1 - _EDGE]
    return {
        "run": one.run.name,
        "setting": one.setting,
        "measure": tuner.measure or "plateau",
        "trials": len(trials),
        "failed": len(trials) - len(scores),
        "first": trials[0].score,
        "best": min(scores, default=float("nan")),
        "tuned": _words(best),
        "at an end of its range": ", ".join(edges),
    }


def _words(values: dict[str, float]) -> str:
    return ", ".join(f"{key.rpartition('.')[2]}={value:.4g}" for key, value in values.items())


def _table(lines: list[dict[str, Any]], tuner: Tuner) -> Table:
    title = f"{tuner.measure or 'plateau'} on tuning seeds {', '.join(map(str, tuner.search.seeds))}"
    shown = [name for name in lines[0] if name != "measure" and any(line[name] not in ("", 0) for line in lines)]
    table = tables.on_screen(title)
    for name in shown:
        table.add_column(name, justify="right" if name in ("trials", "failed", "first", "best") else "left")
    for line in lines:
        table.add_row(*(escape(cell(line[name])) for name in shown))
    return table


def _comparison(content: dict[str, Any], tuner: Tuner) -> str:
    """Returns the comparison file with the options that were chosen."""
    chosen: dict[str, dict[str, dict[str, float]]] = {}
    for one in tuner.searched:
        if best := one.study.best():
            chosen.setdefault(one.run.name, {})[one.setting or ALL] = best
    runs = [
        {**run, "tuned": {**run.get("tuned", {}), **chosen[run["name"]]}} if run["name"] in chosen else run
        for run in content["runs"]
    ]
    rest = {key: value for key, value in content.items() if key not in ("runs", "tune", "override")}
    override = {"override": tuner.comparison.override} if tuner.comparison.override else {}
    seeds = ", ".join(map(str, tuner.search.seeds))
    head = f"# Options chosen by {tuner.trials} trials for each run and setting on the tuning seeds {seeds}.\n"
    return head + yaml.dump({**rest, **override, "runs": runs}, Dumper=_Plain, sort_keys=False, width=120)


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
