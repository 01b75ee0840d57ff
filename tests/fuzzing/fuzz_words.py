"""Mistakes in what is typed: verbs, options, names of classes, values of the verbs' own options."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

from fuzz_options import ENERGY, TOY, VAE
from hostile import Case

from ils_lightning.cli import OWN_VERBS, TRAINER_VERBS
from ils_lightning.estimators.table import classes

VERBS = [*TRAINER_VERBS, *OWN_VERBS]
TRAINER_OPTIONS = ["max_steps", "max_epochs", "accelerator", "devices", "strategy", "precision", "gradient_clip_val"]
TRAINER_OPTIONS += ["val_check_interval", "log_every_n_steps", "default_root_dir", "accumulate_grad_batches"]
MODEL_OPTIONS = ["estimator", "categories", "trials", "settings", "record_every", "optimizer", "lr_scheduler"]
OWN_OPTIONS = {
    "compare": ["folder", "settings", "seeds", "override", "workers"],
    "sample": ["ckpt_path", "count", "output", "images"],
    "bench": ["parts", "repeats", "threads", "device", "folder"],
    "estimators": ["form"],
    "diagnose": ["estimators", "average", "settle", "draw_seed", "title", "beside", "folder"],
}
OUTSIDE = ["os.system", "subprocess.Popen", "builtins.eval", "shutil.rmtree", "missing_module.Class", "torch.nn.Linear"]
OUTSIDE += ["json.JSONDecoder", "torch.Missing", "ils_lightning.Missing", "..", "a.b.c.d", "ILS.", ".ILS", "1.2", "é.è"]


def misspelt(word: str, chance: Random) -> str:
    """A word with one letter doubled, left out or put after the next one."""
    places = [place for place in range(1, len(word) - 1) if word[place] != word[place + 1] and word[place].isalnum()]
    place = chance.choice(places)
    left, letter, right = word[:place], word[place], word[place + 1 :]
    return chance.choice([left + letter * 2 + right, left + right, left + right[0] + letter + right[1:]])


def verbs(chance: Random) -> Iterator[Case]:
    """Words in the place of the verb."""
    for verb in VERBS:
        wrong = misspelt(verb, chance)
        yield Case(wrong, [wrong], (wrong, f"did you mean '{verb}'"))
        yield Case(f"{verb.upper()}, options", [verb.upper(), "--x", "1"], (verb.upper(), f"did you mean '{verb}'"))
    for word in ("", " ", "fît", "--", "-x", "--config", "../fit", "f\nit", "fit " * 200, "0", "null", "\u202efit"):
        yield Case(f"verb {word[:20]!r}", [word], ("unknown verb",))


def options(chance: Random) -> Iterator[Case]:
    """Options that no verb has."""
    for name in TRAINER_OPTIONS:
        wrong = misspelt(name, chance)
        yield Case(f"trainer.{wrong}", [*TOY, f"--trainer.{wrong}=1"], (wrong, f"did you mean --trainer.{name}"))
    for name in MODEL_OPTIONS:
        wrong = misspelt(name, chance)
        yield Case(f"model.{wrong}", [*TOY, f"--model.{wrong}=1"], (wrong, f"did you mean '{name}'"))
    for name in ("categories", "trials", "settings", "paired", "seed"):
        wrong = misspelt(name, chance)
        yield Case(f"data.{wrong}", [*TOY, f"--data.{wrong}=1"], (wrong, f"did you mean '{name}'"))
    for group in ("model", "data", "trainer", "config", "seed_everything", "ckpt_path"):
        wrong = misspelt(group, chance)
        yield Case(f"--{wrong}", [*TOY, f"--{wrong}=1"], (wrong, f"did you mean --{group}"))
    for verb, names in OWN_OPTIONS.items():
        for name in names:
            wrong = misspelt(name, chance)
            words = [verb, *(["compare/toy1"] if verb == "compare" else []), f"--{wrong}", "1"]
            yield Case(f"{verb} --{wrong}", words, (wrong, f"did you mean --{name}"))
    for word in ("-", "---", "-1", "extra", "é", "--=", "--.", "--.model", "--model.", "--model..estimator=ILS", "="):
        yield Case(f"word {word!r}", [*TOY, word, "1"])
    for name in ("--trainer.max_steps", "--config", "--model", "--ckpt_path", "--model.estimator.step_size"):
        yield Case(f"{name} without a value", ["fit", name], (name, "needs a value"))


def names(chance: Random) -> Iterator[Case]:
    """Names of classes: misspelt, of another kind, outside the package."""
    for kind in classes():
        if len(kind.__name__) > 3:
            wrong = misspelt(kind.__name__, chance)
            yield Case(f"estimator {wrong}", [*ENERGY, f"--model.estimator={wrong}"], (wrong, "did you mean"))
    places = {"model": "CategoricalFit", "data": "SingleDraws", "model.loss": "ExpectedKL", "model.optimizer": "Adam"}
    places |= {"model.lr_scheduler": "CosineAnnealingLR", "trainer.logger": "CSVLogger", "model.estimator": "ReinMax"}
    places |= {"trainer.callbacks": "LearningRateMonitor"}
    for place, name in places.items():
        wrong = misspelt(name, chance)
        yield Case(f"{place} {wrong}", ["fit", f"--{place}={wrong}"], (wrong, "did you mean"))
        for outside in OUTSIDE:
            yield Case(f"{place} {outside}", ["fit", f"--{place}={outside}"], (f"--{place}",))
    for name in ("Estimator", "Sampler", "Pullback", "Curved", "Digits", "CategoricalFit", "Adam", "MLP", "7", "[]"):
        yield Case(f"estimator {name}", [*TOY, f"--model.estimator={name}"], (name,))


def files(chance: Random) -> Iterator[Case]:
    """Names of packaged files."""
    for name in (
        "toy1",
        "vae_digits",
        "polynomial",
        "vae_mnist_L4K8",
        "hard_attention",
        "listops",
        "moe_text",
        "sudoku",
        "relational",
        "world_model",
        "world_model_grid",
        "imagination_cart_pole",
        "vae_conv",
    ):
        wrong = misspelt(name, chance)
        yield Case(f"config {wrong}", ["fit", f"--config={wrong}"], (wrong, f"did you mean '{name}'"))
    for name in ("estimators/rebar", "estimators/ils_newton", "estimators/gumbel_softmax"):
        wrong = f"estimators/{misspelt(name.split('/')[1], chance)}"
        yield Case(wrong, [*TOY, f"--model.estimator={wrong}"], (wrong, f"did you mean '{name}'"))
    for name in ("compare/toy1", "compare/vae_digits", "compare/polynomial"):
        wrong = f"compare/{misspelt(name.split('/')[1], chance)}"
        yield Case(wrong, ["compare", wrong], (wrong, name))
    for name in ("estimators/rebar", "compare/toy1", "diagnose/nothing", "published/nothing", "/", ".", "..", "~"):
        yield Case(f"config {name}", ["fit", f"--config={name}"], (name,))


def make_file(folder: Path) -> None:
    """A file where a folder is wanted."""
    (folder / "file").touch()


def values() -> Iterator[Case]:
    """Values of the verbs' own options."""
    counts = ["abc", "0", "-1", "1.5", "", "nan", "[]", "{}"]
    toy = ["compare", "compare/toy1"]
    yield from (Case(f"workers {v}", [*toy, f"--workers={v}"], ("workers",)) for v in counts)
    yield from (Case(f"seeds {v}", [*toy, f"--seeds={v}"], ("seed",)) for v in ("abc", "999", "1.5", "nan", "{}"))
    yield from (Case(f"runs {v}", [*toy, f"--runs={v}"], ("run",)) for v in ("nothing", "ils", "[7]", "é"))
    yield from (Case(f"settings {v}", [*toy, f"--settings={v}"], ("setting",)) for v in ("nothing", "[7]"))
    for text in ("", "=", "=1", "a", "a..b=1", ".=1", "a=[", "data=7", "trainer=1", "model.class_path=Missing"):
        yield Case(f"override {text!r}", [*toy, f"--override={text}"])
    for text in ("trainer.max_steps=0", "trainer.max_steps=abc", "trainer.max_step=5", "trainer.accelerator=abacus"):
        yield Case(f"override {text}", [*toy, f"--override={text}"], (text.split("=")[0].split(".")[-1],))
    yield from (Case(f"repeats {v}", ["bench", f"--repeats={v}"], ("repeats",)) for v in counts)
    yield from (Case(f"threads {v}", ["bench", f"--threads={v}"], ("threads",)) for v in ("abc", "-1", "1.5", "nan"))
    yield from (Case(f"device {v}", ["bench", f"--device={v}"], (v,)) for v in ("abacus", "cuda", "cpu:99:1", "7"))
    yield from (Case(f"part {v}", ["bench", f"--parts={v}"], (v,)) for v in ("sampler", "interfaces", "é", "os"))
    yield from (Case(f"form {v}", ["estimators", f"--form={v}"], (v,)) for v in ("html", "markdow", "7", "Terminal"))
    for option, bad in {"draws": counts, "average": counts, "rows": counts, "limit": ["abc", "-1", "1.5"]}.items():
        yield from (Case(f"{option} {v}", ["diagnose", f"--{option}={v}"], (option,)) for v in bad)
    yield from (Case(f"settle {v}", ["diagnose", f"--settle={v}"], ("settle",)) for v in ("abc", "-1", "1.5"))
    yield from (Case(f"exact {v}", ["diagnose", f"--exact={v}"], ("exact",)) for v in ("maybe", "7", "[]"))
    yield from (Case(f"draw_seed {v}", ["diagnose", f"--draw_seed={v}"], ("draw_seed",)) for v in ("abc", "1.5"))
    for name in ("ReinMx", "os.system", "7", "[[]]", "Estimator"):
        yield Case(f"diagnose {name}", ["diagnose", f"--estimators={name}"], (name.strip("[]"),))
    yield from (Case(f"count {v}", ["sample", f"--count={v}"], ("count",)) for v in counts)
    for option, value in (("output", "x.txt"), ("output", ""), ("images", "x.png"), ("images", "x"), ("seed", "abc")):
        yield Case(f"{option} {value!r}", ["sample", f"--{option}={value}"], (option,))
    short = ["--draws=64", "--estimators=ReinMax", "--settle=0"]
    for words in (["bench", "--repeats=1"], toy, ["diagnose", *short]):
        yield Case(f"{words[0]} --folder=file/x", [*words, "--folder=file/x"], ("file/x",), make_file)
        yield Case(f"{words[0]} --folder=file", [*words, "--folder=file"], ("file",), make_file)
        yield Case(f"{words[0]} --folder=/proc/x", [*words, "--folder=/proc/x"], ("/proc/x",))
    yield Case("fit into a file", [*VAE, "--trainer.default_root_dir=file"], ("file",), make_file)
    yield Case("fit into /proc", [*VAE, "--trainer.default_root_dir=/proc/x"], ("/proc/x",))
    yield Case("beside nothing", ["diagnose", *short, "--beside=nothing"], ("nothing",))
