"""Configuration files are found in one way, and each mistake about them is told by what the file holds."""

import stat
import zipfile
from pathlib import Path

import pytest
from test_cli import refusal

from ils_lightning import packaged
from ils_lightning.cli import main
from ils_lightning.errors import Refusal

RUN, COMPARISON, PART = (
    "model: CategoricalFit\n",
    "title: ours\nbase: toy1\nruns: [{name: a}]\n",
    "class_path: ReinMax\n",
)


@pytest.mark.parametrize("kind", ["run", "comparison", "estimator"])
def test_every_packaged_file_describes_what_its_folder_says(kind: packaged.Kind) -> None:
    assert len(packaged.names(kind)) > 5
    for name in packaged.names(kind):
        assert packaged.described(packaged.load(name, kind)) == kind, name


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"run": RUN, "comparison": COMPARISON, "part": PART, "list": "[1]", "empty": ""}.items():
        Path(f"{name}.yaml").write_text(text)
    with zipfile.ZipFile("last.ckpt", "w") as archive:
        archive.writestr("data.pkl", "x")
    Path("null.yaml").write_text(
        "model: {class_path: DiscreteVAE, init_args: {estimator: {class_path: ILS, init_args: }}}"
    )
    Path("no_seed.yaml").write_text(
        "seed_everything: null\nmodel: {class_path: CategoricalFit, init_args: {estimator: ILS}}\ndata: SingleDraws\n"
    )
    Path("nothing.ckpt").touch()
    Path("binary").write_bytes(b"\xff\xfe\x80")
    Path("folder").mkdir()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("compare", "run.yaml"), "'run.yaml' describes one run; give it as: fit --config run.yaml"),
        (("compare", "vae_digits"), "fit --config vae_digits; the packaged comparison is compare/vae_digits"),
        (("compare", "part.yaml"), "give it as --model.estimator part.yaml"),
        (
            ("compare", "last.ckpt"),
            "is a checkpoint, not a configuration; give it as --ckpt_path last.ckpt",
        ),
        (("compare", "folder"), "'folder' is a folder"),
        (("compare", "binary"), "'binary' is not readable as YAML"),
        (("compare", "list.yaml"), "'list.yaml' must hold a mapping"),
        (("compare", "empty.yaml"), "'empty.yaml' must hold a mapping"),
        (("compare", "compare/vae_digts"), "did you mean 'compare/vae_digits'?"),
        (("fit", "--config=comparison.yaml"), "a comparison; run it by: compare comparison.yaml"),
        (("fit", "--config", "compare/toy1"), "a comparison; run it by: compare compare/toy1"),
        (("fit", "--config", "part.yaml"), "give it as --model.estimator part.yaml"),
        (("fit", "--config", "estimators/mu_prop"), "give it as --model.estimator estimators/mu_prop"),
        (("fit", "--config=last.ckpt"), "is a checkpoint, not a configuration"),
        (("fit", "--config=folder"), "'folder' is a folder"),
        (("fit", "--config=empty.yaml"), "must hold a mapping"),
        (("fit", "--config=vae_digts"), "did you mean 'vae_digits'?"),
        (("fit", "--model.estimator=comparison.yaml"), "run it by: compare comparison.yaml"),
        (("fit", "--model.estimator=run.yaml"), "give it as: fit --config run.yaml"),
        (("fit", "--model.estimator=last.ckpt"), "is a checkpoint"),
        (("fit", "--model.estimator=estimators/mu_prp"), "did you mean 'estimators/mu_prop'?"),
        (("fit", "--model.estimator=folder/"), "is a folder"),
        (("fit", "--trainer=last.ckpt"), "--trainer: 'last.ckpt' is a checkpoint"),
        (("fit", "--model", "last.ckpt"), "--model: 'last.ckpt' is a checkpoint"),
        (("fit", "--data", "list.yaml"), "--data: 'list.yaml' must hold a mapping"),
        (("fit", "--config=null.yaml"), "model.init_args.estimator.init_args must be a mapping"),
        (("test", "--ckpt_path=run.yaml"), "it is no file that torch wrote"),
        (("test", "--ckpt_path=nothing.ckpt"), "it is empty"),
        (("fit", "--config=vae_digits", "--model.lr_scheduler=ReduceLROnPlateau"), "lightning.pytorch.cli.ReduceLROn"),
        (("fit", "--trainer.plugins=MixedPrecision"), "cannot be made of its name alone; it needs precision, device"),
        (("fit", "--config=no_seed.yaml"), "--seed_everything: must be from 0 to 4294967295; given null"),
    ],
)
def test_a_file_in_the_wrong_place_is_told_where_it_belongs(
    words: tuple[str, ...], told: str, files: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refusal(capsys, *words)


def test_options_given_as_a_long_text_are_taken(files: None, capsys: pytest.CaptureFixture[str]) -> None:
    text = '{"class_path": "CategoricalFit", "init_args": {"estimator": {"class_path": "ILS"}' + " " * 300 + "}}"
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--model", text, "--data=SingleDraws", "--print_config"])
    assert "CategoricalFit" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("compare",), ("fit", "--config"), ("fit", "--model.estimator")])
def test_a_name_too_long_for_a_file_is_no_file(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file 'estimators/xxx" in refusal(capsys, *words, f"estimators/{'x' * 300}")


def test_a_base_that_is_a_comparison_is_refused(files: None, capsys: pytest.CaptureFixture[str]) -> None:
    Path("nested.yaml").write_text("title: ours\nbase: comparison.yaml\nruns: [{name: a}]\n")
    assert "'comparison.yaml' describes a comparison" in refusal(capsys, "compare", "nested.yaml")


def test_a_file_that_cannot_be_opened_is_named(files: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    assert Path("run.yaml").stat().st_mode & stat.S_IRUSR
    with pytest.raises(Refusal, match=r"^'run.yaml' is not readable: Permission denied$"):
        packaged.load("run.yaml")
