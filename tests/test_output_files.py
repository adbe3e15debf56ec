"""Folders and files that cannot be written: one sentence that names the path, and nothing of ours is hidden."""

import errno
from pathlib import Path

import pytest

from hpo.errors import HpoError
from hpo.output_files import check_folder, writing


@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_a_file_in_the_place_of_a_folder(below: str, tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("kept")
    with pytest.raises(HpoError) as refused:
        check_folder(tmp_path / "afile" / below, "give another")
    assert str(refused.value).startswith(f"{tmp_path / 'afile'} is a file") and str(refused.value).endswith("another")
    assert (tmp_path / "afile").read_text() == "kept"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc, where nobody may create a folder")
def test_a_folder_that_cannot_be_created() -> None:
    with pytest.raises(HpoError, match=r"/proc/xx.* cannot be created"):
        check_folder(Path("/proc/xx"), "give another")


def test_a_folder_that_can_be_written_is_left_empty(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b", "give another")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(HpoError, match=rf"{tmp_path} cannot be written \(No space"), writing(tmp_path, "free some"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_errors_about_other_files_stay_as_they_are(tmp_path: Path) -> None:
    """A template of ours that is missing is a defect, whose traceback is needed."""
    (tmp_path / "here").mkdir()
    for error in (FileNotFoundError(errno.ENOENT, "missing", str(tmp_path / "there")), OSError("no number")):
        with pytest.raises(type(error)) as raised, writing(tmp_path / "here", "give another"):
            raise error
        assert raised.value is error
