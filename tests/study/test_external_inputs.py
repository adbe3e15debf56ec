"""Environment variables and files that functions read when they are called."""

from pathlib import Path
from typing import Any

import pytest

from hpo.study.external_inputs import external_inputs

READING = {
    "os.environ['SCALE_Z']": {"environment variable SCALE_Z"},
    "float(os.getenv('SCALE_Z', '1'))": {"environment variable SCALE_Z"},
    "(lambda: os.environ.get('SCALE_Z'))()": {"environment variable SCALE_Z"},
    "os.environ['UNSET_Z']": set(),
    "'SCALE_Z'": set(),
    "json.load(open(HERE / 'table.json'))": {"file table.json"},
    "(HERE / 'table.json').read_text()": {"file table.json"},
    "open('nowhere.json')": set(),
    "open('folder')": set(),
    f"open('{'long' * 999}')": set(),
    "open('no name of a file: \\0')": set(),
    "open('table.json', 'a').write('a line')": set(),
    "log.write_text((HERE / 'table.json').read_text())": set(),
    "print('a line', file=open('table.json', 'a'))": set(),
    "print('a line', file=open('table.json', mode='w+b'))": set(),
    "open('table.json', 'rt').readline()": {"file table.json"},
    "'table.json'": set(),
}


def reading(code: str, folder: Path) -> dict[str, str]:
    space: dict[str, Any] = {}
    exec(compile(f"def read():\n    return {code}\n", str(folder / "study.py"), "exec"), space)
    return external_inputs(space["read"])


@pytest.mark.parametrize("code", READING)
def test_inputs_are_named_and_their_changes_are_seen(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    inputs = []
    for text in ("1", "1", "2"):
        monkeypatch.setenv("SCALE_Z", text)
        (tmp_path / "table.json").write_text(text)
        inputs.append(reading(code, tmp_path))
    assert set(inputs[0]) == READING[code]
    assert inputs[0] == inputs[1] and (inputs[0] != inputs[2]) == bool(READING[code])


def test_a_file_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here.txt").write_text("1")
    monkeypatch.chdir(tmp_path)
    assert set(reading("open('here.txt')", tmp_path / "elsewhere")) == {"file here.txt"}
