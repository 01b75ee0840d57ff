"""Text: its characters, its parts and passages, and what is refused."""

import gzip

import pytest
import torch

from ils_lightning.data import Text
from ils_lightning.data.characters import ALPHABET, OTHER, codes_of, text_of


def test_characters_have_codes_and_back():
    assert text_of(codes_of("def f(x):\n    ~")) == "def f(x):\n    ~"
    assert text_of(codes_of("a\tß…")) == f"a{ALPHABET[OTHER] * 3}"
    assert len(set(ALPHABET)) == OTHER + 1 == 97


def test_parts_follow_each_other_and_passages_cover_them():
    data = Text(length=50, batch_size=7)
    train, val, test = data.splits
    assert torch.equal(torch.cat([part.codes for part in data.splits]), data.codes)
    assert len(val.codes) == len(test.codes) == round(0.05 * len(data.codes))
    text = text_of(data.codes)
    assert "statement" in text
    assert len(text) > 300_000
    seen = torch.cat([batch.characters for batch in data.val_dataloader()])
    assert seen.shape == (len(val), 51)
    assert torch.equal(seen[:, 0], torch.cat([val.codes[:1], seen[:-1, -1]]))
    assert torch.equal(seen[:, 1:].flatten(), val.codes[1 : 50 * len(val) + 1])
    assert len(train.batch(slice(None)).characters) == len(train)


def test_training_passages_begin_anywhere_and_are_a_function_of_the_seed():
    train = Text(length=50).splits.train
    text = text_of(train.codes)
    one, two, other = (next(iter(Text(length=50, seed=seed).train_dataloader())).characters for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert all(text_of(row) in text for row in one)
    stored = {text_of(row) for row in train.batch(slice(None)).characters}
    assert sum(text_of(row) not in stored for row in one) > 8


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_is_learnt_from(suffix, tmp_path):
    path, text = tmp_path / f"own.txt{suffix}", "a line of text\r\n" * 100
    path.write_bytes(gzip.compress(text.encode()) if suffix else text.encode())
    data = Text(str(path), length=20)
    assert text_of(data.codes) == "a line of text\n" * 100
    assert data.summary() == {
        "data": path.name,
        "characters": "1,350 train, 75 validation, 75 test; 0.00% outside the alphabet",
    }


def test_bad_texts_and_options_are_refused(tmp_path):
    path = tmp_path / "own.txt"
    for content, message in (
        (b"short", r"at least length \+ 1 = 129 characters; of the 5 of own.txt, 5, 0, 0 are for"),
        ("теорема ".encode() * 100, "88% of the characters of own.txt are outside the alphabet"),
        (b"\xff\xfe" * 100, "own.txt cannot be read: 'utf-8' codec"),
        (b"", "of the 0 of own.txt"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            Text(str(path)).setup("fit")
    with pytest.raises(ValueError, match=r"file must be a text in UTF-8; given .*missing"):
        Text(str(tmp_path / "missing")).setup("fit")
    with pytest.raises(ValueError, match=r"together below 1; given 0.6 and 0.5"):
        Text(validation=0.6, test=0.5)
    with pytest.raises(ValueError, match=r"above 0 .* given 0 and 0.05"):
        Text(validation=0)
    with pytest.raises(ValueError, match="length must be at least 1; given 0"):
        Text(length=0)
