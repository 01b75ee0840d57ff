"""Bad files: configurations, comparisons, checkpoints and data, each made by writing or damaging bytes."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fuzz_options import TOY
from hostile import Case

Content = bytes | str | None
UNREADABLE: dict[str, Content] = {
    "empty": "",
    "folder": None,
    "list": "- model\n- data",
    "number": "7",
    "text": "just words",
    "null": "null",
    "binary": bytes(range(256)),
    "zeros": bytes(100),
    "utf-16": "model: {}".encode("utf-16"),
    "latin-1": "title: é".encode("latin-1"),
    "open bracket": "model: [",
    "open quote": 'model: "',
    "tab": "model:\n\tclass_path: CategoricalFit",
    "colons": "a: b: c",
    "indentation": "model:\n    a: 1\n  b: 2",
    "unknown anchor": "model: *nothing",
    "python object": "model: !!python/object/apply:os.system ['touch marked']",
    "python module": "model: !!python/module:os",
    "own tag": "model: !thing {}",
    "two documents": "model: {}\n---\ndata: {}",
    "nested": "[" * 5000,
    "aliases": "\n".join(
        ["a: &a [x, x]", *(f"{b}: &{b} [*{a}, *{a}]" for a, b in zip("abcdefghij", "bcdefghijk", strict=False))]
    ),
    "keys": "? [a, b]\n: c",
    "image": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "archive": b"PK\x03\x04" + bytes(50),
}
PARTS = {
    "seed_everything: abc": ("seed_everything",),
    "seed_everything: [1]": ("seed_everything",),
    "modle: {class_path: CategoricalFit}": ("modle", "did you mean --model"),
    "trainr: {max_steps: 3}": ("trainr", "did you mean --trainer"),
    "model: 7": ("model",),
    "model: [CategoricalFit]": ("model",),
    "model: {class_path: }": ("model",),
    "model: {class_path: 7}": ("model",),
    "model: {class_path: [CategoricalFit]}": ("model",),
    "model: {class_path: CategoricalFti}": ("CategoricalFti", "did you mean 'CategoricalFit'"),
    "model: {clas_path: CategoricalFit}": ("clas_path",),
    "model: {class_path: CategoricalFit, init_arg: {}}": ("init_arg",),
    "model: {class_path: CategoricalFit, init_args: 7}": ("model",),
    "model: {class_path: CategoricalFit, init_args: [7]}": ("model",),
    "model: {class_path: CategoricalFit, init_args: {trails: 3}}": ("trails", "did you mean 'trials'"),
    "model: {class_path: CategoricalFit, init_args: {trials: abc}}": ("trials", "abc"),
    "model: {class_path: CategoricalFit, init_args: {estimator: ILS, trials: }}": ("trials",),
    "model: {class_path: CategoricalFit, init_args: {trials: 1.5}}": ("trials", "1.5"),
    "model: {class_path: CategoricalFit, init_args: {trials: .nan}}": ("trials",),
    "model: {class_path: CategoricalFit, init_args: {estimator: {class_path: ISL}}}": ("ISL", "did you mean 'ILS'"),
    "model: {class_path: CategoricalFit, init_args: {estimator: [ILS]}}": ("estimator",),
    "model: {class_path: CategoricalFit, init_args: {optimizer: {class_path: os.system}}}": ("os.system",),
    "model: {class_path: os.system}": ("os.system",),
    "data: {class_path: Digit}": ("Digit", "did you mean 'Digits'"),
    "data: {class_path: Digits, init_args: {batch_siz: 3}}": ("batch_siz", "did you mean 'batch_size'"),
    "data: null\nmodel: null": ("model",),
    "trainer: 7": ("trainer",),
    "trainer: [max_steps]": ("trainer",),
    "trainer: {max_step: 3}": ("max_step", "max_steps"),
    "trainer: {max_steps: abc}": ("max_steps", "abc"),
    "trainer: {callbacks: 7}": ("callbacks",),
    "trainer: {callbacks: [7]}": ("callbacks",),
    "trainer: {callbacks: [{class_path: LearningRateMonito}]}": ("LearningRateMonito",),
    "trainer: {callbacks: [{class_path: OptionSchedule}]}": ("option, schedule",),
    "trainer: {logger: {class_path: shutil.rmtree}}": ("shutil.rmtree",),
    "trainer: {plugins: [{class_path: subprocess.Popen}]}": ("subprocess.Popen",),
    "ckpt_path: 7": ("ckpt_path",),
    "ckpt_path: nothing.ckpt": ("nothing.ckpt",),
    "class_path: ILS": ("--model.estimator",),
    "extra: 7": ("extra",),
    "'': 7": (),
    "é: 7": ("é",),
}
GRIDS = {
    "title: x": ("base",),
    "titel: x": ("titel",),
    "{title: x, base: toy1}": ("runs",),
    "{title: x, base: toy1, runs: []}": ("runs",),
    "{title: x, base: toy1, runs: 7}": ("runs",),
    "{title: x, base: toy1, runs: [7]}": ("runs",),
    "{title: x, base: toy1, runs: [{}]}": ("name",),
    "{title: x, base: toy1, runs: [{name: a}, {name: a}]}": ("different names",),
    "{title: x, base: toy1, runs: [{nam: a}]}": ("nam",),
    "{title: x, base: toy2, runs: [{name: a}]}": ("toy2", "toy1"),
    "{title: x, base: {}, runs: [{name: a}]}": ("trainer",),
    "{title: x, base: {trainer: {}}, runs: [{name: a}]}": (),
    "{title: x, base: [toy1], runs: [{name: a}]}": ("base",),
    "{title: x, base: toy1, runs: [{name: a}], seeds: []}": ("seed",),
    "{title: x, base: toy1, runs: [{name: a}], seeds: [0, 0]}": ("seed",),
    "{title: x, base: toy1, runs: [{name: a}], seeds: [abc]}": ("seeds",),
    "{title: x, base: toy1, runs: [{name: a}], seeds: [-1]}": ("seed",),
    "{title: x, base: toy1, runs: [{name: a}], layout: panel}": ("panel", "panels"),
    "{title: x, base: toy1, runs: [{name: a}], paired: maybe}": ("paired",),
    "{title: x, base: toy1, runs: [{name: a}], change: {trainer.max_steps: 0}}": ("max_steps",),
    "{title: x, base: toy1, runs: [{name: a}], change: {trainer.max_steps: abc}}": ("max_steps",),
    "{title: x, base: toy1, runs: [{name: a}], change: {model.init_args.trails: 1}}": ("trails",),
    "{title: x, base: toy1, runs: [{name: a}], change: {model.class_path: Missing}}": ("Missing",),
    "{title: x, base: toy1, runs: [{name: a}], change: {data.class_path: os.system}}": ("os.system",),
    "{title: x, base: toy1, runs: [{name: a}], change: {trainer.callbacks: [os.system]}}": ("os.system",),
    "{title: x, base: toy1, runs: [{name: a}], change: {data: 7}}": ("7",),
    "{title: x, base: toy1, runs: [{name: a}], change: 7}": ("change",),
    "{title: x, base: toy1, runs: [{name: a, change: {model.init_args.estimator: ISL}}]}": ("ISL", "ILS"),
    "{title: x, base: toy1, runs: [{name: a, only: [b]}]}": ("b",),
    "{title: x, base: toy1, runs: [{name: a, settings: {levels: []}}]}": ("levels",),
    "{title: x, base: toy1, runs: [{name: a}], tune: {key: k, candidates: [], seeds: [1]}}": ("candidates",),
    "{title: x, base: toy1, runs: [{name: a}], tune: {key: k, candidates: [1], seeds: [0]}}": ("seeds",),
    "{title: x, base: toy1, runs: [{name: a}], tune: {key: k, candidates: [abc], seeds: [1]}}": ("candidates",),
    "{title: x, base: vae_digits, runs: [{name: a}], measure: 7, change: {trainer.max_steps: 0}}": (),
}


def put(name: str, content: Content, folder: Path) -> None:
    """Writes a file, or makes a folder of that name."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        path.mkdir()
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_bytes(content)


def configurations() -> Iterator[Case]:
    """Files given by --config, or to compare."""
    for name, content in UNREADABLE.items():
        prepare = partial(put, "run.yaml", content)
        yield Case(f"config: {name}", ["fit", "--config=run.yaml"], ("run.yaml",) if name != "aliases" else (), prepare)
        yield Case(f"comparison: {name}", ["compare", "run.yaml"], (), prepare)
        yield Case(f"settings: {name}", [*TOY, "--model.estimator=run.yaml"], ("estimator",), prepare)
    for text, named in PARTS.items():
        yield Case(text, ["fit", "--config=toy1", "--config=run.yaml"], named, partial(put, "run.yaml", text))
    for text, named in GRIDS.items():
        yield Case(text, ["compare", "run.yaml"], named, partial(put, "run.yaml", text))
