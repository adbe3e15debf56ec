"""`hpo new`: a study file to start from."""

import re
from importlib.resources import files
from pathlib import Path

from hpo.errors import UsageError
from hpo.study.study_files import STUDIES, study_path

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def write_study(name: str, source: str | None = None) -> Path:
    """Writes ./studies/NAME.py, a commented study with a custom regularizer or a copy of `source`; returns its path.

    Args:
        name: the study's name. source: a study as `hpo run` takes it, such as "gnvr".

    Raises:
        UsageError: `name` is not a valid name, there is no study `source`, or the file exists or cannot be written.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a name for a study; start with a letter and use letters, digits and '_'")
    path = STUDIES / f"{name}.py"
    template = study_path(source) if source else files("hpo.study").joinpath("template.py.txt")
    text = template.read_text(encoding="utf-8")
    try:
        STUDIES.mkdir(exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text if source else text.replace("NAME", name))
    except FileExistsError as error:
        other = f"name the copy, as in hpo new --from {source} my_{name}" if source else "choose another name"
        raise UsageError(f"{error.filename} exists already; {other}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); change to a folder you can write to") from error
    return path
