"""Folders with the next free number, and what is left of them where an error comes before their first file."""

from pathlib import Path

import pytest

from ils_lightning.numbered import numbered, own_folder


def test_the_next_number_is_that_after_the_highest(tmp_path: Path) -> None:
    for name in ("version_2", "version_10", "version_x"):
        (tmp_path / name).mkdir()
    assert [numbered(tmp_path).name, numbered(tmp_path).name] == ["version_11", "version_12"]


def test_what_was_there_or_was_written_outlives_an_error(tmp_path: Path) -> None:
    for named, above in ((None, tmp_path / "a/b"), (tmp_path / "c/d", tmp_path)):
        with pytest.raises(KeyboardInterrupt), own_folder(named, above):
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="x"), own_folder(tmp_path / "there", tmp_path):
        raise ValueError("x")
    with pytest.raises(NotADirectoryError), own_folder(None, tmp_path / "there") as written:
        (written / "file/twice").write_text(str((written / "file").touch()))
    assert (tmp_path / "there/version_0/file").is_file()


def test_a_file_of_that_name_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError), own_folder(tmp_path / "file", tmp_path):
        raise AssertionError
