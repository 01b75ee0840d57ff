"""The tables of models that people train: trees, routers, world models, tokenisers, sudoku, graphs, variables."""

import csv
from collections import Counter
from statistics import fmean

from results_files import PM, ROOT, beside, decimals, lines, paired, read

from ils_lightning.tables import markdown

PUBLISHED = "GumbelSoftmax(0.5)"
"""The estimator of the published relational inference."""


def listops() -> str:
    """Latent trees: wrong answers on the published test file."""
    results = read("listops", "test/error", 100)[""]
    rates = {line["run"]: line["tuned"].rpartition("=")[2] for line in lines("listops")}
    rows = []
    for run, seeds in sorted(results.items(), key=lambda pair: fmean(pair[1].values())):
        difference, error = paired(seeds, results["ReinMax"])
        beside = "" if run == "ReinMax" else f"{difference:+.1f}{PM}{error:.1f}"
        rows.append([run, f"{fmean(seeds.values()):.1f} %", beside, f"{max(seeds.values()):.1f} %", rates[run]])
    return markdown(["run", "wrong answers", "to ReinMax", "worst seed", "learning rate"], rows)


def moe_text() -> str:
    """Routers on text: what is left of each budget, and what their gradients are like."""
    names = ("test/bits", "val/load_entropy", "val/router_cosine", "val/router_noise")
    test, entropy, cosine, noise = (read("moe_text", name) for name in names)
    with (ROOT / "docs/results/moe_text_budgets.csv").open(encoding="utf-8") as file:
        budgets = {(row["setting"], row["run"]): row for row in csv.DictReader(file)}
    rates = {(line["run"], line["setting"]): line["tuned"].rpartition("=")[2] for line in lines("moe_text")}
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
            told = [run, setting, str(len(seeds)), rates[run, setting], mean, beside(seeds, reference)]
            rows.append([*told, *equal, *of_router])
    heading = [
        "run",
        "experts",
        "seeds",
        "rate",
        "test",
        "to TopKGate",
        "equal steps",
        "equal evaluations",
        "equal seconds",
    ]
    return markdown([*heading, "load entropy", "cosine", "variance"], rows)


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


def tokenizer_fashion(name: str = "tokenizer_fashion") -> str:
    """Tokenisers of Fashion-MNIST: nats under a learnt prior, fewest first, and what they are made of."""
    names = ("nats", "code_nats", "loss", "psnr", "perplexity", "code_usage")
    nats, codes, even, psnr, perplexity, usage = (read(name, f"test/{measured}")[""] for measured in names)
    rows = []
    for run, seeds in sorted(nats.items(), key=lambda pair: fmean(pair[1].values())):
        difference = beside(seeds, nats["ReinMax"], 1)
        shown = ((codes, ".1f"), (even, ".1f"), (psnr, ".2f"), (perplexity, ".1f"), (usage, ".0%"))
        cells = [format(fmean(found[run].values()), digits).replace("%", " %") for found, digits in shown]
        rows.append([run, str(len(seeds)), f"{fmean(seeds.values()):.1f}", difference, *cells])
    heading = ["run", "seeds", "nats", "to ReinMax", "of which codes", "even prior", "PSNR, dB", "perplexity"]
    return markdown([*heading, "codes in use"], rows)


def tokenizer_fashion_512() -> str:
    """The same with 64 codes of 512."""
    return tokenizer_fashion("tokenizer_fashion_512")


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
