"""`hpo new`: a study file to begin with."""

import re
from importlib.resources import files
from pathlib import Path

from hpo.errors import UsageError
from hpo.study.loading import STUDIES

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def write_study(name: str) -> Path:
    """Writes ./studies/NAME.py, a commented study with a regularizer of its own; returns its path.

    Raises:
        UsageError: the name cannot be a study's, the file is there already, or it cannot be written.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a study's name; begin with a letter and use letters, digits and '_'")
    path = STUDIES / f"{name}.py"
    text = files("hpo.study").joinpath("template.py.txt").read_text(encoding="utf-8")
    try:
        STUDIES.mkdir(exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text.replace("NAME", name))
    except FileExistsError as error:
        raise UsageError(f"{error.filename} exists already; choose another name, or delete it first") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); go to a folder that is yours") from error
    return path
