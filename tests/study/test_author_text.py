"""The author's own text: which file a report shows, under every name that a study may have."""

from pathlib import Path

import pytest

from hpo.study.author_text import author_file, read_author_text


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with studies/rogc.py, and elsewhere/other.py that is no study in ./studies."""
    monkeypatch.chdir(tmp_path)
    for file in ("studies/rogc.py", "elsewhere/other.py"):
        Path(file).parent.mkdir()
        Path(file).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("study", "command", "files"),
    [
        ("rogc", "hpo run rogc", ["studies/rogc.md"]),
        ("mine", "hpo run rogc --name mine", ["studies/mine.md", "studies/rogc.md"]),
        ("rogc-noisy", "hpo run rogc:noisy", ["studies/rogc-noisy.md", "studies/rogc.md"]),
        (
            "mine",
            "hpo run studies/rogc.py:noisy --epochs 3 --name mine",
            ["studies/mine.md", "studies/rogc-noisy.md", "studies/rogc.md"],
        ),
        ("other", "hpo run elsewhere/other.py", ["elsewhere/other.md", "studies/other.md"]),
        ("two words", "hpo run 'two words'", ["studies/two words.md"]),  # its file is gone
        ("kept", "hpo run 'kept", ["studies/kept.md"]),
        ("kept", "", ["studies/kept.md"]),
    ],
)
def test_the_most_specific_file_is_shown(study: str, command: str, files: list[str], project: Path) -> None:
    (project / "studies" / "another.md").write_text("of another study")
    assert author_file(study, command) is None and read_author_text(study, command) is None
    for file in reversed(files):
        Path(file).write_text(f"text in {file}")
        assert read_author_text(study, command) == f"text in {file}"


def test_a_built_in_study_has_its_text_in_the_folder_of_studies(project: Path) -> None:
    (project / "studies" / "gnvr.md").write_text("what I think")
    assert read_author_text("mine", "hpo run gnvr --name mine") == "what I think"
