"""Writes the tables of README and pages anew from docs/results/*.csv: `python experiments/results_tables.py`.

A table stands between the lines `<!-- table: NAME -->` and `<!-- end -->`. With `--show true` all are printed instead.
"""

import re
from collections.abc import Callable
from statistics import fmean

from jsonargparse import auto_cli
from results_files import ROOT, Results, Seeds, against, beside, ends, lines, read
from results_of_models import (
    commitment,
    imagined_actors,
    listops,
    moe_text,
    relational,
    sudoku,
    tokenizer_fashion,
    tokenizer_fashion_512,
    variables,
    world_model,
)

from ils_lightning.tables import markdown

DOCS = ROOT / "docs"
PAGES = (
    *(ROOT / "README.md", DOCS / "index.md", DOCS / "results.md", DOCS / "toy.md"),
    *sorted((DOCS / "results").glob("*.md")),
)
SPREAD = 2.1
"""Times ReinMax's processor time: an epoch of four spread draws of ILSTempered(every=8); the page of MNIST says how it
was timed. In the runs of the last quarter it was 1.9 to 2.0, which gives the same table."""
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def vae_digits() -> str:
    """Every estimator on the digits."""
    return against("vae_digits", "test/loss", "ReinMax")


def vae_mnist() -> str:
    """Five epochs on MNIST."""
    return against("vae_mnist", "test/loss", "ReinMax")


def codes_mnist() -> str:
    """Share of the codes in use on MNIST: the mean over seeds, and the lowest of any seed."""
    results = read("vae_mnist", "test/code_usage", 100)
    runs = list(next(iter(results.values())))

    def cell(seeds: Seeds) -> str:
        return f"{fmean(seeds.values()):.0f} % ({min(seeds.values()):.0f} %)"

    return markdown(["codes in use", *results], [[run, *(cell(results[s][run]) for s in results)] for run in runs])


def vae_mnist_160() -> str:
    """The published length on MNIST."""
    return ends("vae_mnist_160", "ReinMax(1.5)")


def falling_rate() -> str:
    """Sixteen more epochs after the published length, in which the learning rate falls to zero."""
    return ends("falling_rate", "ReinMax(1.5)", "train/loss")


def last_epochs() -> str:
    """The last of the published time at the constant rate, by more draws: beside ReinMax's whole training."""
    measures = {"training, last epoch": ("train/loss", "last"), "test -ELBO": 2 * ("test/loss",)}
    measures |= {"bound, test": 2 * ("test/iwae",)}
    found = {name: (read("last_epochs", own), read("vae_mnist_160", whole)) for name, (own, whole) in measures.items()}
    rows = []
    for setting, results in found["test -ELBO"][0].items():
        for run, seeds in results.items():
            reference = {name: whole[setting]["ReinMax(1.5)"] for name, (_, whole) in found.items()}
            same = [fmean(reference[name][seed] for seed in seeds) for name in measures]
            apart = [beside(own[setting][run], reference[name], 2) for name, (own, _) in found.items()]
            means = [fmean(own[setting][run].values()) for own, _ in found.values()]
            whole_training = ["ReinMax(1.5), 160 epochs", setting, ", ".join(seeds), *(f"{mean:.2f}" for mean in same)]
            rows += [] if whole_training in rows else [whole_training]
            cells = [f"{mean:.2f} ({difference})" for mean, difference in zip(means, apart, strict=True)]
            rows.append([run, setting, ", ".join(seeds), *cells])
    return markdown(["run", "setting", "seeds", *measures], rows)


def vae_mnist_ceiling() -> str:
    """What noise and bias cost in 40 epochs of MNIST."""
    return ends("vae_mnist_ceiling", "ReinMax")


def last_epochs_fashion() -> str:
    """The last of the published time on Fashion-MNIST."""
    return ends("last_epochs_fashion", "ReinMax(1.5), 40 epochs from 120", "train/loss")


def mnist_ends() -> str:
    """Where ReinMax ends on MNIST, as published and with less noise at its end, and in how much time."""
    whole, last, fall = (read(name, "test/loss") for name in ("vae_mnist_160", "last_epochs", "falling_rate"))
    spread = "LatinHypercube(ILSTempered(1.5) over 4)"
    last_four = (last, f"{spread}, 19 epochs from 120", 120 + 19 * SPREAD)
    ways = {
        "`ReinMax`, 160 epochs, as published": (whole, "ReinMax(1.5)", 160),
        "`ReinMax` for 120, then four spread draws of `ILSTempered` for 19": last_four,
        "`ReinMax` for 160, then for 16 in which its rate falls to zero": (fall, "ReinMax(1.5)", 176),
        "the same, these 16 by four spread draws of `ILSTempered`": (fall, spread, 160 + 16 * SPREAD),
    }
    sizes = ("L24K4", "L12K16")

    def cell(seeds: Seeds, reference: Seeds) -> str:
        difference = beside(seeds, reference, 2)
        return f"{fmean(seeds.values()):.2f}" + (f" ({difference})" if difference else "")

    rows = [
        [way, f"{epochs / 160:.1f}", *(cell(found[size][run], whole[size]["ReinMax(1.5)"]) for size in sizes)]
        for way, (found, run, epochs) in ways.items()
    ]
    return markdown(["-ELBO of test images, nats", "time", *sizes], rows)


def vae_digits_600() -> str:
    """Ten times the epochs on the digits."""
    return ends("vae_digits_600", "ReinMax")


def vae_digits_ceiling() -> str:
    """What noise and bias cost on the digits, up to the exact gradient."""
    return ends("vae_digits_ceiling", "ReinMax")


def vae_ordinal() -> str:
    """A VAE of ordered levels on the digits, beside that of categories."""
    return against("vae_ordinal", "test/loss", "ReinMax")


def vae_digits_wide() -> str:
    """Many latents on the digits."""
    return against("vae_digits_wide", "test/loss", "ReinMax")


def standing() -> str:
    """The family, its two neighbours and the best of the rest, on every problem whose results are kept."""
    family = ["ILS, step_size 0.1", "ILSCV", "ILSNewton", "ILSJoint", "ReinMax", "StraightThrough"]
    edges: Results = {}
    for setting, found in read("relational", "test/wrong_edges", 100).items():
        for run, seeds in found.items():
            estimator, held, _ = run.partition(", held")
            edges.setdefault(setting + held, {})[estimator] = seeds
    at_160 = {run: seeds for run, seeds in read("vae_mnist_160", "test/loss")["L24K4"].items() if len(seeds) > 2}
    at_160["ReinMax"] = at_160.pop("ReinMax(1.5)")
    problems = [
        *[(f"digits VAE, {s}", read("vae_digits", "test/loss")[s], "") for s in ("L8K4", "L4K24", "L16K12")],
        ("digits VAE, 600 epochs, L8K4", read("vae_digits_600", "test/loss")[""], ""),
        *[(f"MNIST VAE, 5 epochs, {s}", read("vae_mnist", "test/loss")[s], "") for s in ("L4K8", "L24K4", "L12K16")],
        ("MNIST VAE, 160 epochs, L24K4", at_160, ""),
        ("experts on text, top-1, bits a character", read("moe_text", "test/bits")["top-1"], ""),
        *[(f"world model, a step, {s}", read("world_model", "test/loss")[s], "") for s in ("L8K8", "L32K16")],
        ("tokenisers, 49 codes of 128, nats", read("tokenizer_fashion", "test/nats")[""], ""),
        ("tokenisers, 64 codes of 512, nats", read("tokenizer_fashion_512", "test/nats")[""], ""),
        ("ListOps, wrong answers", read("listops", "test/error", 100)[""], " %"),
        ("Sudoku, easy, not solved", read("sudoku", "test/unsolved", 100)["easy"], " %"),
        *[(f"graphs of springs, {s}, wrong edges", found, " %") for s, found in edges.items()],
    ]
    rows = []
    for title, results, unit in problems:
        means = {run: fmean(seeds.values()) for run, seeds in results.items()}
        besides = {run for run in means if run in family or "ILS" in run or run.startswith(("exact", "no draws"))}
        others = {run: mean for run, mean in means.items() if run not in besides}
        best = min(others, key=lambda run: others[run], default="")
        decimals = 1 if unit else 2
        cells = [f"{means[run]:.{decimals}f}{unit}" if run in means else "" for run in family]
        rows.append([title, f"{others[best]:.{decimals}f}{unit}, {best}" if best else "", *cells])
    return markdown(["problem", "best other", "ILS as published", *family[1:]], rows, words=2)


def pooling() -> str:
    """Bias and variance of the gradient at an encoder's weights as a model trains."""
    found = {(line["estimator"], line["epoch"]): line for line in lines("pooling")}
    estimators, epochs = (list(dict.fromkeys(key[place] for key in found)) for place in (0, 1))

    def cell(line: dict[str, str]) -> str:
        return f"{line['squared_bias']} + {line['variance']} ({line['cosine']})".replace("0.", ".").replace(
            " ", "\u00a0"
        )

    rows = [[f"`{name}`", *(cell(found[name, epoch]) for epoch in epochs)] for name in estimators]
    return markdown(["estimator", *(f"epoch {epoch}" for epoch in epochs)], rows)


def polynomial() -> str:
    """Distance to the optimum of polynomial programming at the end, at each power."""
    results = read("polynomial", "last")
    first = next(iter(results.values()))
    runs = sorted(first, key=lambda run: first[run]["0"])
    return markdown(["run", *results], [[run, *(f"{results[s][run]['0']:.4f}" for s in results)] for run in runs])


def toy1_paired() -> str:
    """The published experiment with 200 trials of the same distributions."""
    rows = [
        [
            f"{line['run']}, {line['setting']}",
            _plateau(line),
            _digits(line["floor"]),
            _digits(line["minimum"]),
            f"{int(line['steps_to_twice_plateau']):,}",
        ]
        for line in lines("toy1_paired")
    ]
    return markdown(["run", "plateau (95 % interval)", "bias floor", "minimum", "steps to twice the plateau"], rows)


def toy1_energy() -> str:
    """The well-posed toy, with a Gaussian kernel."""
    found = sorted(lines("toy1_energy"), key=lambda line: float(line["plateau"]))
    rows = [[line["run"], _plateau(line), line["tuned"].rpartition("=")[2]] for line in found]
    return markdown(["run", "plateau (95 % interval)", "learning rate"], rows)


def _plateau(line: dict[str, str]) -> str:
    return f"{_digits(line['plateau'])} ({_digits(line['low'])} to {_digits(line['high'])})".replace(" ", "\u00a0")


def _digits(number: str) -> str:
    return "" if number == "nan" else f"{float(number):#.2g}"


TABLES: dict[str, Callable[[], str]] = {
    table.__name__: table
    for table in (
        *(standing, vae_digits, vae_mnist, codes_mnist, listops, moe_text, tokenizer_fashion, tokenizer_fashion_512),
        *(
            vae_mnist_160,
            vae_mnist_ceiling,
            mnist_ends,
            last_epochs,
            last_epochs_fashion,
            falling_rate,
            vae_digits_600,
            vae_digits_wide,
            vae_digits_ceiling,
            sudoku,
            world_model,
            imagined_actors,
        ),
        *(relational, commitment, variables, vae_ordinal),
        *(pooling, toy1_paired, toy1_energy, polynomial),
    )
}


def filled(page: str) -> str:
    """The page with every table made anew."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{TABLES[block[2]]()}\n{block[3]}", page)


def main(show: bool = False) -> None:
    """Writes the tables of the pages anew.

    Args:
        show: print the tables instead.
    """
    if show:
        print("\n".join(table() for table in TABLES.values()))
        return
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    auto_cli(main)
