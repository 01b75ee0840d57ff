"""`encode`: int64 codes of every row in stored order, beside what each of them is the code of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningDataModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from ils_lightning.cli import main
from ils_lightning.data import Digits, ImageFiles
from ils_lightning.encode import EncodingTrainer
from ils_lightning.modules import CodePrior, DiscreteVAE, HierarchicalVAE

OFF: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
OFF |= {"enable_model_summary": False, "accelerator": "cpu"}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def checkpoint(model: Any, data: Any) -> str:
    trainer = Trainer(max_steps=2, limit_val_batches=0, **OFF)
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint("model.ckpt")
    return "model.ckpt"


def test_all_splits_of_the_digits_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    model, data = DiscreteVAE(estimator="ReinMax"), Digits(validation=97, binarize="dynamic")
    path = checkpoint(model, data)
    words = ["--config=vae_digits", f"--ckpt_path={path}", "--data.validation=97", "--data.binarize=dynamic"]
    main(["encode", *words])
    assert f"codes of {1797:,} rows (train, val, test) are in codes.npz" in capsys.readouterr().out
    assert sorted(file.name for file in Path().iterdir()) == ["codes.npz", "model.ckpt"]
    found = np.load("codes.npz")
    assert found["codes"].dtype == np.int64
    assert found["codes"].shape == (1797, 8)
    for split in ("train", "val", "test"):
        rows = getattr(data.splits, split)
        mine = found["split"] == split
        assert found["index"][mine].tolist() == list(range(len(rows)))
        assert found["label"][mine].tolist() == rows.label.tolist()
    test = torch.cat([model.encode(batch.x) for batch in data.test_dataloader()])
    assert test.dtype == torch.int64
    assert torch.equal(test, torch.from_numpy(found["codes"][found["split"] == "test"]))
    assert (found["codes"].max(), found["codes"].min()) == (3, 0)
    table = torch.arange(4.0)[torch.from_numpy(found["codes"])]  # codes index, they are no mask
    assert table.shape == (1797, 8)


def test_one_split_as_a_torch_file() -> None:
    path = checkpoint(DiscreteVAE(estimator="ReinMax"), Digits())
    words = ["--config=vae_digits", f"--ckpt_path={path}", "--splits=test", "--output=out/test.pt"]
    main(["encode", *words])
    found = torch.load("out/test.pt", weights_only=True)
    assert found["codes"].shape == (len(found["label"]), 8)
    assert set(found["split"]) == {"test"}


def test_rows_of_files_have_names(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / "pictures" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 12 * number, dtype=np.uint8)).save(folder / f"{number:02}.png")
    data = ImageFiles(str(tmp_path / "pictures"), validation=0.2, test=0.2, batch_size=5)
    model = DiscreteVAE(estimator="ReinMax", image_shape=[1, 8, 8])
    found = EncodingTrainer(**OFF).encode(model, data, output=tmp_path / "codes.npz")
    assert sorted(found["name"]) == sorted(f"class{n % 2}/{n:02}.png" for n in range(20))
    assert all(int(name[5]) == label for name, label in zip(found["name"], found["label"], strict=True))
    for name, codes in zip(found["name"], found["codes"], strict=True):
        grey = torch.full((1, 1, 8, 8), 12 * int(name[7:9]) / 255)
        assert torch.equal(model.encode(grey)[0], torch.from_numpy(codes))


def test_rows_of_an_array_have_its_places(tmp_path: Path) -> None:
    pixels = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "mine.npy", pixels)
    data = ImageFiles(str(tmp_path / "mine.npy"), test=0.3)
    data.setup("fit")
    for split in ("train", "val", "test"):
        places, names = data.origin(split)
        assert places.tolist() == getattr(data.splits, split).pixels[:, 0, 0, 0].tolist()
        assert names == []


class Loaders(LightningDataModule):
    """Shuffled training images and no validation."""

    image_shape = (1, 8, 8)
    images = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(1))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.images, torch.arange(30)), batch_size=4, shuffle=True)

    def test_dataloader(self) -> Any:
        return iter([self.images])


def test_shuffled_loaders_of_any_datamodule_are_read_in_order() -> None:
    model = DiscreteVAE(estimator="ReinMax", bias_from_data=False)
    found = EncodingTrainer(**OFF).encode(model, Loaders(), splits=["train"])
    assert found["label"].tolist() == list(range(30))
    assert torch.equal(torch.from_numpy(found["codes"]), model.encode(Loaders.images))
    with pytest.raises(ValueError, match=r"Loaders.test_dataloader\(\) must return a torch DataLoader"):
        EncodingTrainer(**OFF).encode(model, Loaders(), splits=["test"])


def test_other_models_with_codes() -> None:
    prior = CodePrior(tokenizer={"estimator": "ReinMax", "latents": 16, "image_shape": [1, 8, 8]})
    hierarchy = HierarchicalVAE(estimator="ReinMax", image_shape=[1, 8, 8])
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(prior.encode(x), prior.tokenizer.encode(x))
    assert (hierarchy.encode(x).shape, hierarchy.encode(x).dtype) == ((5, 8), torch.int64)
    assert hierarchy.training


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--config=toy1", "--model.chunk=1"], "encode needs a model with a method encode"),
        (["--config=vae_digits", "--output=codes.csv"], "--output must end in .npz or .pt"),
        (["--config=vae_digits", "--splits=tests"], "one of train, val, test, did you mean 'test'?; given 'tests'"),
        (["--config=vae_digits", "--splits=train", "--splits=vl"], "train, val, test, did you mean 'val'?; given 'vl'"),
        (["--config=vae_digits", "--splits=[train,tset]"], "train, val, test, did you mean 'test'?; given 'tset'"),
    ],
)
def test_refusals(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(DiscreteVAE(estimator="ReinMax"), Digits())
    with pytest.raises(SystemExit) as ended:
        main(["encode", *words, f"--ckpt_path={path}"])
    assert ended.value.code == 2
    assert named in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["encode", "--config=vae_digits"])
    assert "encode needs trained weights" in capsys.readouterr().err
