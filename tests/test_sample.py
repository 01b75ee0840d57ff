"""From `fit` to test, pictures, predictions and samples, by the command line."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ils_lightning.cli import main
from ils_lightning.cli.sample import load

FIT = ("fit", "--config=vae_digits", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.chdir(folder)
        main([*FIT, "--model.draws=2", "--model.importance_samples=3"])
    (folder / "printed.txt").write_text(printed.getvalue())
    return folder / "lightning_logs" / "version_0"


@pytest.fixture
def checkpoint(run):
    return str(run / "checkpoints" / "last.ckpt")


@pytest.mark.slow
def test_fit_prints_the_test_result_after_its_report(run):
    printed = (run.parents[1] / "printed.txt").read_text()
    assert printed.index("ILSNewton") < printed.index("-log p(x), 3-sample bound")
    (loss,) = re.findall(r"│ -ELBO +│ (\d\d\.\d\d) nats", printed)
    events = EventAccumulator(str(run)).Reload()
    assert float(loss) == pytest.approx(events.Scalars("DiscreteVAE-test/loss")[-1].value, abs=0.0051)
    assert "DataLoader" not in printed


def test_fit_leaves_pictures_and_the_test_result(run):
    assert {"reconstructions.png", "samples.png", "traversal.png"} <= {path.name for path in run.iterdir()}
    events = EventAccumulator(str(run), {"images": 0, "scalars": 0}).Reload()
    assert {"visual/reconstructions", "visual/samples", "visual/traversal"} <= set(events.Tags()["images"])
    wanted = {f"DiscreteVAE-{name}" for name in ("train/loss", "val/loss", "test/loss", "test/iwae")}
    assert wanted <= set(events.Tags()["scalars"])


@pytest.mark.slow
def test_samples_are_written_and_depend_on_the_seed_alone(checkpoint, tmp_path, capsys):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        picture, images = tmp_path / f"{name}.png", tmp_path / f"{name}.npy"
        main(
            [
                "sample",
                "--ckpt_path",
                checkpoint,
                "--count=5",
                f"--output={picture}",
                f"--images={images}",
                f"--seed={seed}",
            ]
        )
        assert picture.read_bytes().startswith(b"\x89PNG")
    a, b, c = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    assert a.shape == (5, 1, 8, 8)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert "5 images are in" in capsys.readouterr().out
    main(["sample", "--ckpt_path", checkpoint, "--output", str(tmp_path / "a.png"), "--images", str(tmp_path / "a.pt")])
    expected = load(checkpoint).sample(64, torch.Generator().manual_seed(0))
    assert torch.equal(torch.load(tmp_path / "a.pt"), expected)
    capsys.readouterr()
    main(["sample", "--ckpt_path", checkpoint, "--count", "1", "--output", str(tmp_path / "one.png")])
    assert f"1 image is in {tmp_path / 'one.png'}" in capsys.readouterr().out


def test_predictions_are_codes_and_images(run, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["predict", "--ckpt_path", checkpoint, "--trainer.enable_progress_bar=false"])
    (path,) = Path(tmp_path).rglob("predictions.pt")
    batches = torch.load(path, weights_only=True)
    assert batches[0]["codes"].shape == (100, 8)
    assert batches[0]["codes"].dtype == torch.int64
    assert batches[-1]["reconstructions"].shape[1:] == (1, 8, 8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count=0"], "count must be at least 1; given 0"),
        (["--output=a.jpg"], "output of images must end in .png; given 'a.jpg'"),
        (["--images=a.csv"], "images must end in .npy or .pt; given 'a.csv'"),
    ],
)
def test_mistakes_are_told_in_one_line(checkpoint, words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["sample", "--ckpt_path", checkpoint, *words])
    assert capsys.readouterr().err.startswith(f"error: sample: {message}")


@pytest.mark.slow
def test_only_checkpoints_of_image_models_can_be_sampled(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["sample", "--ckpt_path=missing.ckpt"])
    assert "there is no file 'missing.ckpt'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["sample"])
    assert "sample needs trained weights: give --ckpt_path FILE" in capsys.readouterr().err
    main(["fit", "--trainer.max_steps=2"])
    (toy,) = tmp_path.rglob("last.ckpt")
    with pytest.raises(SystemExit, match="2"):
        main(["sample", "--ckpt_path", str(toy)])
    assert "only models with a method sample(count, generator)" in capsys.readouterr().err
