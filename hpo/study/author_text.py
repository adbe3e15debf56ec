"""The author's own text about a study: a Markdown file next to the study's file, or in ./studies."""

from collections.abc import Iterator
from pathlib import Path

from hpo.errors import UsageError
from hpo.study.study_files import STUDIES, command_reference, study_name, study_path


def read_author_text(study: str, command: str, studies: Path = STUDIES) -> str | None:
    """The text that a report of the study shows; None if there is none. See `author_file`."""
    file = author_file(study, command, studies)
    return file.read_text(encoding="utf-8", errors="replace") if file else None


def author_file(study: str, command: str, studies: Path = STUDIES) -> Path | None:
    """The first file that exists: NAME.md, else that of the variant, else that of the study file.

    `hpo run rogc:noisy --name mine` gives mine.md, rogc-noisy.md and rogc.md, each first next to the study's file.

    Args:
        study: its name in the database. command: the command line that created it, as the database keeps it.
        studies: the folder of study files, where `hpo report` and the dashboard run.
    """
    reference = command_reference(command)
    names = dict.fromkeys(filter(None, (study, study_name(reference), study_name(reference.partition(":")[0]))))
    folders = dict.fromkeys([*_folder_of(reference), studies])
    files = (folder / f"{name}.md" for name in names for folder in folders)
    return next((file for file in files if file.is_file()), None)


def _folder_of(reference: str) -> Iterator[Path]:
    """The folder of the study's file, if it still exists."""
    try:
        yield study_path(reference).parent
    except UsageError:
        return
