"""Images in memory: splits, orders, shares of ranks, resumption, and how pixels become binary."""

import re

import pytest
import torch
from lightning import LightningModule, Trainer

from ils_lightning.data import Digits
from ils_lightning.data.batches import Batches
from ils_lightning.data.image_set import ImageSet


def numbered(count: int) -> ImageSet:
    return ImageSet(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count))


def labels(batches: Batches) -> list[list[int]]:
    return [batch.label.tolist() for batch in batches]


def flat(lists: list[list[int]]) -> list[int]:
    return [number for one in lists for number in one]


def test_digits_are_those_of_scikit_learn():
    source = pytest.importorskip("sklearn.datasets").load_digits()
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(123))
    splits = Digits(binarize="none", validation=0).splits
    for split, index in ((splits.train, order[:1500]), (splits.test, order[1500:])):
        assert torch.equal(split.pixels.squeeze(1).double(), torch.from_numpy(source.images)[index])
        assert torch.equal(split.label, torch.from_numpy(source.target)[index])


def test_validation_digits_are_the_last_of_the_training_digits():
    everything, parted = Digits(validation=0).splits, Digits(validation=150).splits
    assert [len(split) for split in parted] == [1350, 150, 297]
    assert torch.equal(torch.cat([parted.train.pixels, parted.val.pixels]), everything.train.pixels)
    assert torch.equal(parted.test.pixels, everything.test.pixels)
    assert Digits(validation=0).val_dataloader() == []


def test_digits_are_on_above_eight_of_sixteen():
    grey, binary = Digits(binarize="none").splits.test.pixels, Digits().test_dataloader()
    shown = torch.cat([batch.x for batch in binary])
    assert torch.equal(shown, (grey > 8).float())
    assert Digits().image_shape == (1, 8, 8)
    assert torch.equal(Digits(validation=0).pixel_mean, Digits(validation=0).splits.train.pixels.float().mean(0))


def test_grey_levels_are_in_the_unit_interval():
    batch = next(iter(Digits(binarize="none", batch_size=297).test_dataloader()))
    assert batch.x.dtype == torch.float32
    assert batch.label.dtype == torch.int64
    assert (batch.x.min(), batch.x.max()) == (0, 1)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_shuffled_shares_are_disjoint_and_equal(ranks):
    shares = [labels(Batches(numbered(50), 4, shuffle=True, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert {len(share) for share in shares} == {50 // ranks // 4}
    assert {len(batch) for share in shares for batch in share} == {4}
    assert len(set(flat([flat(share) for share in shares]))) == ranks * (50 // ranks // 4) * 4


@pytest.mark.parametrize(("count", "ranks"), [(50, 1), (50, 3), (9, 2), (13, 3), (4, 4), (12, 3)])
def test_shares_in_order_cover_every_image_once_in_equally_many_batches(count, ranks):
    loaders = [Batches(numbered(count), 4, rank=rank, ranks=ranks) for rank in range(ranks)]
    shares = [labels(loader) for loader in loaders]
    assert {len(share) for share in shares} == {len(loader) for loader in loaders}
    assert len({len(share) for share in shares}) == 1
    assert sorted(flat([flat(share) for share in shares])) == list(range(count))
    assert all(batch for share in shares for batch in share)


def test_one_rank_keeps_the_last_incomplete_batch_in_order():
    assert labels(Batches(numbered(6), 4)) == [[0, 1, 2, 3], [4, 5]]


def test_order_is_a_function_of_seed_and_epoch():
    one, same, other = (Batches(numbered(40), 4, seed=seed, shuffle=True) for seed in (1, 1, 2))
    first, second = labels(one), labels(one)
    assert [first, second] == [labels(same), labels(same)]
    assert first != second
    assert first != labels(other)


def test_interrupted_pass_goes_on_where_it_stood():
    whole = Batches(numbered(40), 4, shuffle=True)
    expected = [labels(whole), labels(whole)]
    interrupted, resumed = Batches(numbered(40), 4, shuffle=True), Batches(numbered(40), 4, shuffle=True)
    running = iter(interrupted)
    seen = [next(running).label.tolist() for _ in range(3)]
    resumed.load_state_dict(interrupted.state_dict())
    assert [seen + labels(resumed), labels(resumed)] == expected


class Watcher(LightningModule):
    """Notes what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[torch.Tensor] = []
        self.validated = 0

    def training_step(self, batch, batch_idx):
        self.seen.append(batch.x.clone())
        return self.weight.square()

    def validation_step(self, batch, batch_idx):
        self.validated += len(batch.x)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def watch(folder, steps: int, ckpt_path: str | None = None, **options) -> tuple[Watcher, Trainer]:
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    watcher = Watcher()
    trainer.fit(watcher, datamodule=Digits(batch_size=500, validation=100, binarize="dynamic"), ckpt_path=ckpt_path)
    return watcher, trainer


@pytest.mark.parametrize("options", [{}, {"reload_dataloaders_every_n_epochs": 1}])
def test_trainer_sees_a_new_order_each_epoch(tmp_path, options):
    whole, trainer = watch(tmp_path, 6, **options)
    assert trainer.num_training_batches == 2
    assert trainer.current_epoch == 3
    assert whole.validated == 300
    assert len({batch.sum().item() for batch in whole.seen}) == 6


@pytest.mark.parametrize("options", [{}, {"limit_train_batches": 1}])
@pytest.mark.parametrize("interrupted", [2, 3])
def test_resumed_fit_sees_what_an_uninterrupted_one_would(tmp_path, interrupted, options):
    whole, _ = watch(tmp_path, 6, **options)
    first, trainer = watch(tmp_path, interrupted, **options)
    trainer.save_checkpoint(tmp_path / "middle.ckpt")
    second, _ = watch(tmp_path, 6, str(tmp_path / "middle.ckpt"), **options)
    assert len({batch.sum().item() for batch in whole.seen}) == 6
    assert len(first.seen) == interrupted
    assert len(second.seen) == 6 - interrupted
    assert all(map(torch.equal, first.seen + second.seen, whole.seen))


def test_without_validation_images_a_fit_warns_of_nothing_and_validate_is_refused(tmp_path):
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    watcher = Watcher()
    trainer.fit(watcher, datamodule=Digits(batch_size=500, validation=0))  # warnings are errors here
    assert (len(watcher.seen), watcher.validated) == (6, 0)
    with pytest.raises(ValueError, match="Digits holds out no images for validation"):
        trainer.validate(watcher, datamodule=Digits(validation=0))


def test_dynamic_pixels_are_on_as_often_as_their_grey_level_says():
    grey = torch.arange(17, dtype=torch.uint8).reshape(1, 1, 1, 17).expand(20_000, 1, 1, 17)
    images = ImageSet(grey, torch.zeros(20_000, dtype=torch.long), maximum=16)
    share = next(iter(Batches(images, 20_000, draw=True))).x.mean(0).flatten()
    p = torch.arange(17) / 16
    deviation = (p * (1 - p) / 20_000).sqrt()
    assert torch.equal(share[[0, 16]], torch.tensor([0.0, 1.0]))
    z = (share - p)[1:-1] / deviation[1:-1]
    assert z.abs().max() < 4.5
    wrong = (p * 17 / 18 - p)[1:-1] / deviation[1:-1]  # one level too many
    assert wrong.abs().max() > 4.5


def test_dynamic_draws_differ_between_epochs_and_ranks_and_repeat_under_the_seed():
    def first(data: Digits) -> torch.Tensor:
        return torch.cat([batch.x for batch in data.train_dataloader()])

    once, again, other = (first(Digits(binarize="dynamic", seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    half = ImageSet(torch.full((8, 1, 8, 8), 8, dtype=torch.uint8), torch.zeros(8, dtype=torch.long), 16)
    loaders = [Batches(half, 4, shuffle=True, draw=True, rank=rank, ranks=2) for rank in (0, 1)]
    epochs = [next(iter(loader)).x for loader in loaders for _ in range(2)]
    assert all(not torch.equal(a, b) for number, a in enumerate(epochs) for b in epochs[:number])


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_evaluation_draws_stay(binarize):
    loader = Digits(binarize=binarize).test_dataloader()
    assert torch.equal(*(torch.cat([batch.x for batch in loader]) for _ in range(2)))


def test_static_pixels_are_drawn_once():
    one, same, other = (Digits(binarize="static", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.splits.train.pixels, same.splits.train.pixels)
    assert not torch.equal(one.splits.train.pixels, other.splits.train.pixels)
    assert one.splits.train.pixels.max() == one.splits.train.maximum == 1
    assert torch.equal(one.pixel_mean, one.splits.train.pixels.float().mean(0))


def test_dynamic_pixel_mean_is_the_expected_one():
    grey = Digits(binarize="none").splits.train.pixels.float() / 16
    torch.testing.assert_close(Digits(binarize="dynamic").pixel_mean, grey.mean(0))


def test_global_random_numbers_are_untouched():
    before = torch.get_rng_state()
    for binarize in ("static", "dynamic"):
        data = Digits(binarize=binarize)
        for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
            list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_summary_names_the_binarisation():
    assert Digits().summary() == {
        "data": "Digits",
        "images": "1,350 train, 150 validation, 297 test of 1x8x8",
        "binarize": "threshold > 0.5",
    }
    assert Digits(binarize="dynamic").summary()["binarize"] == "dynamic"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1; given 0"),
        ({"binarize": "sometimes"}, "binarize must be one of none, threshold, static, dynamic; given 'sometimes'"),
        ({"threshold": 8}, "threshold is a grey level from 0 to below 1; given 8"),
        ({"validation": 1500}, "validation must be from 0 to 1499"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Digits(**options)


def test_every_rank_needs_an_image():
    with pytest.raises(ValueError, match="every rank needs a row; given 2 for 3 ranks"):
        Batches(numbered(2), 1, ranks=3)
