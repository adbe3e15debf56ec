"""The user's modules that a function imports when it is called are found without importing them."""

import importlib
import sys
from pathlib import Path

import pytest

from hpo.study.user_modules import user_modules

FOUND = {
    "import LAB.parts": {"", ".start", ".parts"},
    "from . import parts": {"", ".start", ".parts"},
    "importlib.import_module('LAB.parts')": {"", ".start", ".parts"},
    "import_module('.parts', __package__)": {"", ".start", ".parts"},
    "__import__('LAB.parts')": {"", ".start", ".parts"},
    "import_module(name)": {".start"},
    "other('LAB.parts')": {".start"},
}


@pytest.mark.parametrize("statement", FOUND)
def test_modules_that_a_function_imports(statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = f"lab_{tmp_path.name}"  # no module of another test
    (tmp_path / lab).mkdir()
    (tmp_path / lab / "__init__.py").write_text("")
    (tmp_path / lab / "parts.py").write_text("PART = 1")
    (tmp_path / lab / "start.py").write_text(f"def late(name):\n    {statement.replace('LAB', lab)}\n")
    monkeypatch.syspath_prepend(tmp_path)
    start = importlib.import_module(f"{lab}.start")
    assert set(user_modules([start])) == {f"{lab}{name}" for name in FOUND[statement]}
    assert f"{lab}.parts" not in sys.modules
