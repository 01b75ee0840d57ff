"""Writes the tables of the results and toys pages anew from docs/results/*.csv: `python experiments/results_tables.py`.

A table stands between the lines `<!-- table: NAME -->` and `<!-- end -->`. With `--show true` all are printed instead.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from jsonargparse import auto_cli

from ils_lightning.tables import markdown

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "docs" / "results.md", ROOT / "docs" / "toy.md")
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

PUBLISHED = "GumbelSoftmax(0.5)"
"""The estimator of the published relational inference."""
_PM = "\u00a0±\u00a0"  # does not break in a cell

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
        return f"{mean} ({difference:+.2g}{_PM}{error:.2g})"

    return markdown(["run", *settings], [[run, *(cell(run, s) for s in settings)] for run in runs])


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


def listops() -> str:
    """Latent trees: wrong answers on the published test file."""
    results = read("listops", "test/error", 100)[""]
    rates = {line["run"]: line["tuned"].rpartition("=")[2] for line in lines("listops")}
    rows = []
    for run, seeds in sorted(results.items(), key=lambda pair: fmean(pair[1].values())):
        difference, error = paired(seeds, results["ReinMax"])
        beside = "" if run == "ReinMax" else f"{difference:+.1f}{_PM}{error:.1f}"
        rows.append([run, f"{fmean(seeds.values()):.1f} %", beside, f"{max(seeds.values()):.1f} %", rates[run]])
    return markdown(["run", "wrong answers", "to ReinMax", "worst seed", "learning rate"], rows)


def moe_text() -> str:
    """Routers on text: what is left of each budget, and what their gradients are like."""
    names = ("test/bits", "val/load_entropy", "val/router_cosine", "val/router_noise")
    test, entropy, cosine, noise = (read("moe_text", name) for name in names)
    with (ROOT / "docs/results/moe_text_budgets.csv").open(encoding="utf-8") as file:
        budgets = {(row["setting"], row["run"]): row for row in csv.DictReader(file)}
    rows = []
    for setting, results in test.items():
        for run, seeds in sorted(results.items(), key=lambda pair: fmean(pair[1].values())):
            spent, reference = budgets[setting, run], results["TopKGate"]
            equal = [decimals(spent[name]) for name in ("last", "at_equal_evaluations", "at_equal_seconds")]
            of_router = [
                f"{fmean(found[setting][run].values()):.2f}" if run in found[setting] else ""
                for found in (entropy, cosine, noise)
            ]
            mean = f"{fmean(seeds.values()):.3f}"
            rows.append([run, setting, str(len(seeds)), mean, beside(seeds, reference), *equal, *of_router])
    heading = ["run", "experts", "seeds", "test", "to TopKGate", "equal steps", "equal evaluations", "equal seconds"]
    return markdown([*heading, "load entropy", "cosine", "variance"], rows)


def decimals(cell: str) -> str:
    """A number of a CSV, where there is one."""
    return "" if cell in ("", "nan") else f"{float(cell):.3f}"


def world_model() -> str:
    """World model of a cart-pole: -ELBO of a step beside straight-through, and what else the test measured."""
    names = ("test/loss", "test/objective", "test/kl", "test/open_loop_error", "test/wrong_ends")
    loss, objective, kl, error, ends = (read("world_model", name) for name in names)
    kept = lines("world_model")
    rates = {(line["run"], line["setting"]): line["tuned"].rpartition("=")[2] for line in kept}
    lost = Counter((line["run"], line["setting"]) for line in kept if line["failed"])
    rows = []
    for code, results in loss.items():
        for run, seeds in sorted(results.items(), key=lambda pair: fmean(pair[1].values())):
            means = [fmean(found[code][run].values()) for found in (objective, kl, error, ends)]
            told = [f"{means[0]:.3f}", f"{means[1]:.3f}", f"{means[2]:.4f}", f"{means[3]:.2%}".replace("%", " %")]
            apart = beside(seeds, results["StraightThrough"])
            off = beside(error[code][run], error[code]["StraightThrough"], 4)
            mean = f"{fmean(seeds.values()):.3f}"
            number = f"{len(seeds)}, {lost[run, code]} diverged" if lost[run, code] else str(len(seeds))
            rows.append([run, code, number, rates[run, code], mean, apart, *told[:3], off, told[3]])
    heading = ["run", "code", "seeds", "rate", "-ELBO", "to StraightThrough", "minimised", "KL", "imagined"]
    return markdown([*heading, "to StraightThrough", "wrong ends"], rows)


def imagined_actors() -> str:
    """Actors inside world models: their returns in the true world, by what the world model was trained with."""
    found, even = (read("imagined_actors", f"test/{name}")[""] for name in ("return", "random"))
    rows = []
    for run, seeds in sorted(found.items(), key=lambda pair: -fmean(pair[1].values())):
        each = [f"{value:.1f}" for value in seeds.values()]
        apart = beside(seeds, found["StraightThrough"], 1)
        rows.append([run, f"{fmean(seeds.values()):.1f}", apart, ", ".join(each), f"{fmean(even[run].values()):.1f}"])
    heading = ["world model by", "return", "to StraightThrough", "of each seed", "random policy"]
    return markdown(heading, rows)


def beside(seeds: Seeds, reference: Seeds, digits: int = 3) -> str:
    """The difference of equal seeds to the reference, with its standard error from two seeds on."""
    common = [seed for seed in seeds if seed in reference]
    if seeds is reference or not common:
        return ""
    if len(common) == 1:
        return f"{seeds[common[0]] - reference[common[0]]:+.{digits}f}"
    difference, error = paired(seeds, reference)
    return f"{difference:+.{digits}f}{_PM}{error:.{digits}f}"


def tokenizer_fashion() -> str:
    """Tokenisers of Fashion-MNIST: nats under a learnt prior, fewest first, and what they are made of."""
    names = ("nats", "code_nats", "loss", "psnr", "perplexity", "code_usage")
    nats, codes, even, psnr, perplexity, usage = (read("tokenizer_fashion", f"test/{name}")[""] for name in names)
    rows = []
    for run, seeds in sorted(nats.items(), key=lambda pair: fmean(pair[1].values())):
        difference = beside(seeds, nats["ReinMax"], 1)
        shown = ((codes, ".1f"), (even, ".1f"), (psnr, ".2f"), (perplexity, ".1f"), (usage, ".0%"))
        cells = [format(fmean(found[run].values()), digits).replace("%", " %") for found, digits in shown]
        rows.append([run, str(len(seeds)), f"{fmean(seeds.values()):.1f}", difference, *cells])
    heading = ["run", "seeds", "nats", "to ReinMax", "of which codes", "even prior", "PSNR, dB", "perplexity"]
    return markdown([*heading, "codes in use"], rows)


def sudoku() -> str:
    """Sudoku: puzzles solved and digits missing by grade, the most solved bold; by their sum over grades."""
    unsolved, missing = read("sudoku", "test/unsolved", 100), read("sudoku", "test/missing")
    grades = list(unsolved)
    solved = {grade: {run: 100 - fmean(seeds.values()) for run, seeds in unsolved[grade].items()} for grade in grades}
    lacking = {grade: {run: fmean(seeds.values()) for run, seeds in missing[grade].items()} for grade in grades}

    def cell(run: str, grade: str) -> str:
        share = f"{solved[grade][run]:.0f} %"
        best = solved[grade][run] == max(solved[grade].values()) > 0
        return f"{f'**{share}**' if best else share} ({lacking[grade][run]:.1f})"

    runs = sorted(solved[grades[0]], key=lambda run: sum(lacking[grade][run] - solved[grade][run] for grade in grades))
    return markdown(["run", *grades], [[run, *(cell(run, grade) for grade in grades)] for run in runs])


def relational() -> str:
    """Graphs of springs: wrong edges, fewest first, and what else was measured along the inferred graph."""
    wrong, elbo = read("relational", "test/wrong_edges", 100), read("relational", "test/loss")
    one, rollout = (read("relational", f"test/{name}", 1e4) for name in ("one_step_error", "rollout_error"))
    rows = []
    for setting, results in wrong.items():
        for run, seeds in sorted(results.items(), key=lambda pair: fmean(pair[1].values())):
            difference = beside(seeds, results[PUBLISHED], 1)
            shown = ((wrong, ".1f"), (elbo, ".0f"), (one, ".2f"), (rollout, ".1f"))
            share, *others = (format(fmean(found[setting][run].values()), digits) for found, digits in shown)
            rows.append([run, setting, str(len(seeds)), f"{share} %", difference, *others])
    heading = ["run", "setting", "seeds", "wrong edges", f"to {PUBLISHED}", "-ELBO", "one step", "in a row"]
    return markdown(heading, rows)


def commitment() -> str:
    """Graphs of springs as they are learnt: wrong edges and KL at each mark, and the gradient at the first."""
    found = {(line["run"], line["step"]): line for line in lines("commitment")}
    runs, steps = (list(dict.fromkeys(key[place] for key in found)) for place in (0, 1))

    def graphs(line: dict[str, str]) -> str:
        return f"{float(line['wrong_edges']):.1%} ({float(line['kl']):.1f})".replace("%", " %")

    def gradient(line: dict[str, str]) -> list[str]:
        return [f"{float(line[name]):.2f}" for name in ("bias", "variance", "cosine_of_one")]

    rows = [[run, *(graphs(found[run, step]) for step in steps), *gradient(found[run, steps[0]])] for run in runs]
    marks = [f"{step} steps" for step in steps]
    return markdown(["run", *marks, *(f"{name}, {marks[0]}" for name in ("bias", "variance", "cosine of one"))], rows)


def variables() -> str:
    """Variables that are not categorical: where the curve ends, for each law and loss; the best estimator bold."""
    results = read("variables_toy", "plateau")
    runs = list(dict.fromkeys(run for setting in results.values() for run in setting))
    rows = []
    for setting, found in results.items():
        means = {run: round(fmean(seeds.values()), 4) + 0.0 for run, seeds in found.items()}  # no minus before 0
        best = min(mean for run, mean in means.items() if run != "exact gradient")
        shown = {run: f"**{mean:.4f}**" if mean == best else f"{mean:.4f}" for run, mean in means.items()}
        rows.append([setting, *(shown.get(run, "") for run in runs)])
    return markdown(["law and loss", *runs], rows)


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


def vae_mnist_160() -> str:
    """The published length on MNIST."""
    return ends("vae_mnist_160", "ReinMax(1.5)")


def falling_rate() -> str:
    """Sixteen more epochs after the published length, in which the learning rate falls to zero."""
    return ends("falling_rate", "ReinMax(1.5)", "train/loss")


def vae_digits_600() -> str:
    """Ten times the epochs on the digits."""
    return ends("vae_digits_600", "ReinMax")


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
    problems = [
        *[(f"digits VAE, {s}", read("vae_digits", "test/loss")[s], "") for s in ("L8K4", "L4K24", "L16K12")],
        *[(f"MNIST VAE, 5 epochs, {s}", read("vae_mnist", "test/loss")[s], "") for s in ("L4K8", "L24K4", "L12K16")],
        ("experts on text, top-1, bits a character", read("moe_text", "test/bits")["top-1"], ""),
        ("world model, a step", read("world_model", "test/loss")["L8K8"], ""),
        ("ListOps, wrong answers", read("listops", "test/error", 100)[""], " %"),
        *[(f"graphs of springs, {s}, wrong edges", found, " %") for s, found in edges.items()],
    ]
    rows = []
    for title, results, unit in problems:
        means = {run: fmean(seeds.values()) for run, seeds in results.items()}
        others = {
            run: mean for run, mean in means.items() if run not in family and not run.startswith(("ILS", "exact"))
        }
        best = min(others, key=lambda run: others[run])
        decimals = 1 if unit else 2
        cells = [f"{means[run]:.{decimals}f}{unit}" if run in means else "" for run in family]
        rows.append([title, *cells, f"{best} {others[best]:.{decimals}f}{unit}"])
    return markdown(["problem", "ILS as published", *family[1:], "best other"], rows)


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
        *(standing, vae_digits, vae_mnist, codes_mnist, listops, moe_text, tokenizer_fashion),
        *(vae_mnist_160, falling_rate, vae_digits_600, vae_digits_wide, sudoku, world_model, imagined_actors),
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
