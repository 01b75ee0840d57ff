"""Every file in configs/ works: estimators estimate, runs run; comparisons are in test_compare."""

from pathlib import Path

import pytest
import torch
import yaml
from checkpoint_copies import PARTS, copied
from kills import differences
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ils_lightning.cli import main
from ils_lightning.data import ImageData
from ils_lightning.data.image_set import ImageSet, Splits
from ils_lightning.describe import create
from ils_lightning.estimators import Estimator, table

CONFIGS = Path(__file__).parent.parent / "configs"
ESTIMATORS = sorted((CONFIGS / "estimators").glob("*.yaml"))
RUNS = sorted(CONFIGS.glob("*.yaml"))
PUBLISHED = sorted((CONFIGS / "published").glob("*.yaml"))
WITHOUT_OPTIONS_OF_THEIR_OWN = {"Average", "Exact", "Grouped"}


@pytest.mark.parametrize("path", ESTIMATORS, ids=lambda path: path.stem)
def test_recommended_settings_make_an_estimator(path):
    estimator = create(yaml.safe_load(path.read_text()), Estimator)
    assert type(estimator).__module__.rsplit(".", 1)[-1] == path.stem
    logits = torch.randn(16, 2, 2 if estimator.binary else 4, requires_grad=True)
    estimator.build(*logits.shape[-2:])
    estimator(logits, lambda z: (z[..., 0] - 0.3).square().sum(-1)).mean().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_every_estimator_has_recommended_settings():
    named = {path.stem for path in ESTIMATORS}
    expected = {
        c.__module__.rsplit(".", 1)[-1] for c in table.classes() if c.__name__ not in WITHOUT_OPTIONS_OF_THEIR_OWN
    }
    assert named == expected


@pytest.fixture(autouse=True)
def _few_images(monkeypatch):
    """Noise in place of the data sets that would be downloaded."""

    def load(self):
        pixels = torch.randint(256, (4, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return Splits(*[ImageSet(pixels, torch.arange(4)).within(self.margin)] * 3)

    monkeypatch.setattr(ImageData, "prepare_data", lambda self: None)
    monkeypatch.setattr(ImageData, "load", load)


def first_stage(name):
    """The run that a second stage learns on top of, and the option that takes its checkpoint."""
    if name.startswith("code_prior"):
        return name.replace("code_prior", "tokenizer"), "tokenizer"
    return ("world_model", "world") if name.startswith("imagination") else None


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.long] * path.stem.endswith("_large"), id=path.stem) for path in RUNS],
)
def test_packaged_runs_run(path, tmp_path):
    words = [f"--trainer.default_root_dir={tmp_path}", "--trainer.max_steps=2"]
    if stage := first_stage(path.stem):
        main(["fit", f"--config={stage[0]}", *words])
        words.append(f"--model.{stage[1]}={next(tmp_path.rglob('last.ckpt'))}")
    main(["fit", f"--config={path}", *words])
    assert list(tmp_path.rglob("last.ckpt"))


@pytest.mark.long
@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_packaged_runs_go_on_from_their_first_checkpoint(path, tmp_path, monkeypatch):
    """Two epochs, or four steps where a run counts steps: there is a checkpoint half-way."""
    monkeypatch.chdir(tmp_path)
    words = ["fit", f"--config={path}", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
    settings = yaml.safe_load(path.read_text())
    if "chunk" in settings["model"]["init_args"]:
        words = ["fit", f"--config={path}", "--trainer.max_steps=4", "--trainer.val_check_interval=2"]
        words += ["--model.chunk=1", "--model.record_every=1"]
    else:
        end = "max_steps=4" if "max_steps" in settings["trainer"] else "max_epochs=2"
        words += [f"--trainer.{end}", "--trainer.check_val_every_n_epoch=1"]
    if stage := first_stage(path.stem):
        main(["fit", f"--config={stage[0]}", "--trainer.max_steps=2"])
        words.append(f"--model.{stage[1]}={next(tmp_path.rglob('last.ckpt'))}")
    copies = copied(tmp_path / "copies", monkeypatch)
    main([*words, "--trainer.default_root_dir=whole"])
    first, *_, last = (torch.load(copy, weights_only=True) for copy in sorted(copies.iterdir()))
    assert 0 < first["global_step"] < last["global_step"]
    main(["fit", f"--ckpt_path={copies / '00.ckpt'}", "--trainer.default_root_dir=rest"])
    end = torch.load(max(copies.iterdir()), weights_only=True)
    assert differences({part: end[part] for part in PARTS}, {part: last[part] for part in PARTS}) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_settings_lie_on_the_run_of_their_size(path, capsys):
    method, _, size = path.stem.rpartition("_")
    with pytest.raises(SystemExit, match="0"):
        main(["fit", f"--config=vae_mnist_{size}", f"--config=published/{path.stem}", "--print_config"])
    settings = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    own = yaml.safe_load(path.read_text())["model"]["init_args"]
    assert settings["estimator"]["init_args"]["temperature"] == own["estimator"]["init_args"]["temperature"]
    assert settings["optimizer"]["class_path"].rsplit(".")[-1] == own["optimizer"]["class_path"].rsplit(".")[-1]
    assert settings["optimizer"]["init_args"]["lr"] == own["optimizer"]["init_args"]["lr"]
    assert f"L{settings['latents']}K{settings['categories']}" == size
    assert type(create(settings["estimator"], Estimator)).__module__.rsplit(".", 1)[-1] == method


@pytest.mark.slow
@pytest.mark.parametrize("size", ["L24K4", "L12K16"])
def test_cooldown_lies_on_the_published_sizes_and_its_steps_are_those_of_its_epochs(size, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["fit", f"--config=vae_mnist_{size}", "--config=cooldown/mnist_176", "--print_config"])
    settings = yaml.safe_load(capsys.readouterr().out)
    model, trainer = settings["model"]["init_args"], settings["trainer"]
    falls, (grows,) = model["lr_scheduler"]["init_args"], trainer["callbacks"]
    assert falls["steps"] == trainer["max_epochs"] * 60_000 / settings["data"]["init_args"]["batch_size"]
    assert grows["init_args"]["schedule"]["init_args"]["steps"] == [falls["steps"] - falls["cooldown"]]
    alone = yaml.safe_load((CONFIGS / f"vae_mnist_{size}.yaml").read_text())["model"]["init_args"]
    assert model["estimator"]["init_args"]["estimator"]["init_args"] == alone["estimator"]["init_args"]
    assert model["optimizer"]["init_args"]["lr"] == alone["optimizer"]["init_args"]["lr"]


@pytest.mark.slow
def test_cooldown_ends_with_several_draws_and_without_a_learning_rate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    option = "--trainer.callbacks=OptionSchedule", "--trainer.callbacks.option=samples"
    schedule = "--trainer.callbacks.schedule=Milestones", "--trainer.callbacks.schedule.start=1"
    steps = "--trainer.callbacks.schedule.values=[4]", "--trainer.callbacks.schedule.steps=[6]"
    falls = "--model.lr_scheduler.steps=8", "--model.lr_scheduler.cooldown=2"
    trainer = "--trainer.max_epochs=2", "--trainer.limit_train_batches=4", "--trainer.log_every_n_steps=1"
    words = "--config=vae_digits", "--config=cooldown/mnist_176"
    main(["fit", *words, *falls, *trainer, *option, *schedule, *steps])
    kept = torch.load(next(tmp_path.rglob("last.ckpt")), weights_only=True)
    assert kept["global_step"] == 8
    assert kept["optimizer_states"][0]["param_groups"][0]["lr"] == 0
    (events,) = {path.parent for path in tmp_path.rglob("events*")}
    found = EventAccumulator(str(events)).Reload().Scalars("DiscreteVAE-option/samples")
    assert [round(one.value) for one in found] == [1] * 6 + [4] * 2


@pytest.mark.slow
def test_a_file_of_settings_names_the_estimator_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = CONFIGS / "estimators" / "reinmax.yaml"
    main(["fit", f"--model.estimator={path}", "--trainer.max_steps=2"])
    settings = yaml.safe_load(next(tmp_path.rglob("config.yaml")).read_text())
    assert settings["model"]["init_args"]["estimator"]["class_path"].endswith("ReinMax")
