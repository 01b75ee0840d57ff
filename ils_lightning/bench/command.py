"""The verb: measures the parts asked for, prints their tables, and writes JSON, Markdown and figures."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ils_lightning.bench import figure, machine
from ils_lightning.bench.section import Section
from ils_lightning.errors import Refusal, did_you_mean
from ils_lightning.plots import save
from ils_lightning.tables import on_screen

PARTS = {
    "samplers": "draw and backward from logits, time and memory against peers",
    "interface": "estimator(logits, f) beside the bare sampler, in a VAE",
    "family": "the curved family beside ReinMax, a hundred rows a step",
    "faces": "distribution, functions, quantizer, router and later costs beside what they replace",
    "growth": "cost against categories, batch, samples and trials",
    "steps": "an optimiser step of the smallest model, through the Trainer",
    "compiled": "which estimators torch.compile takes",
    "epoch": "an epoch of a VAE, through the Trainer and by hand",
}


def bench(
    parts: list[str] | None = None,
    repeats: int = 30,
    threads: int = 1,
    device: str = "cpu",
    folder: Path = Path("lightning_logs/bench"),
) -> None:
    """Measures speed and memory, prints tables, and writes bench.json, bench.md and figures.

    Times are medians over interleaved repeats in one process; ratios are taken within a repeat. Other work on the
    machine makes times longer, ratios less so.

    Args:
        parts: what to measure: samplers (unless given), interface, family, faces, growth, steps, compiled, epoch. May
            be repeated.
        repeats: turns, at least 20 for numbers to be quoted.
        threads: of torch; 0 for as many as there are cores.
        device: where tensors live, such as cpu or cuda.
        folder: where to write.
    """
    chosen = parts or ["samplers"]
    for part in chosen:
        if part not in PARTS:
            raise Refusal(f"--parts: unknown part {part!r}{did_you_mean(part, list(PARTS))}; parts: {', '.join(PARTS)}")
    if repeats < 1 or threads < 0:
        raise Refusal(f"--repeats must be at least 1 and --threads at least 0; given {repeats} and {threads}")
    place = machine.device(device)
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    with machine.threads(threads):
        where = machine.describe(place) | {"repeats": str(repeats)}
        console.print(", ".join(f"{name} {value}" for name, value in where.items()), highlight=False)
        sections = [section for part in chosen for section in _measured(part, repeats, place)]
    for section in sections:
        _show(section, console)
    _write(sections, where, folder)
    console.print(f"bench.json, bench.md and figures are in {folder}", highlight=False, soft_wrap=True)


def _measured(part: str, repeats: int, device: torch.device) -> list[Section]:
    """Runs one part, under a bar that names what was measured last."""
    run: Callable[..., list[Section]] = import_module(f"ils_lightning.bench.{part}").run
    with Progress(transient=True, console=Console()) as bar:
        task = bar.add_task(part, total=None)
        return run(repeats, device, lambda done: bar.update(task, description=f"{part}: {done}"))


def _show(section: Section, console: Console) -> None:
    """Prints a table, whose headings are sizes on one line each where there is room for that."""
    table = _table(section, " x ")
    if console.measure(table, options=console.options.update(max_width=10_000)).maximum > console.width:
        table = _table(section, " x\n")
    console.print(table, highlight=False)


def _table(section: Section, times: str) -> Table:
    headings, lines = section.table()
    table = on_screen(section.title, section.note)
    table.padding = (0, 0)
    for number, heading in enumerate(headings):
        table.add_column(heading.replace(" x ", times), justify="right" if number else "left", no_wrap=not number)
    for line in lines:
        table.add_row(*line)
    return table


def _write(sections: list[Section], where: dict[str, str], folder: Path) -> None:
    plain = {section.name: {"title": section.title, "rows": section.rows} for section in sections}
    (folder / "bench.json").write_text(json.dumps({"machine": where, "sections": plain}, indent=1), encoding="utf-8")
    head = ", ".join(f"{name} {value}" for name, value in where.items())
    text = "\n".join([f"{head}\n", *(section.markdown() for section in sections)])
    (folder / "bench.md").write_text(text, encoding="utf-8")
    for name, drawn in figure.draw(sections).items():
        save(drawn, folder / name)
