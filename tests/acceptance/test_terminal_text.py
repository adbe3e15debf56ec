"""Escape sequences in names, exceptions and messages of the database never reach the terminal, in any command."""

import re
from pathlib import Path

import pytest
from command_line import CommandLine
from fork_server import ForkServer, LoggedChild

SEQUENCE = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e"
SHOWN = "\\u001b[2J\\u001b]0;owned\\u0007"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029]")
STUDY = f'''
"""A study {SEQUENCE!r} whose names and errors hold escape sequences."""

from pathlib import Path

from hpo import MLP, Configuration, Mnist1d, Regularizer, Study, integers, log_range

TEXT = {SEQUENCE!r}


def grads(objective, params, state, hyper):
    if hyper["rank"] == 500 and not Path("always").exists():  # in the middle, where a step is made before training
        return objective.grad(params), state, {{}}
    raise ValueError("out" + TEXT)


REGULARIZER = Regularizer("r" + TEXT, grads, {{"rank": integers(0, 1000)}}, static=("rank",))
RATE = {{"learning_rate": log_range(1e-3, 1e-2)}}
STUDY = Study(
    title="T" + TEXT,
    hypothesis="H" + TEXT,
    data=Mnist1d(samples=200),
    model=MLP((40, 8, 10)),
    epochs=1,
    trials=2,
    seeds=2,
    tuning_runs=1,
    baseline="Adam" + TEXT,
    configurations=(
        Configuration("Adam" + TEXT, space=RATE),
        Configuration("[b]" + TEXT, space=RATE, regularizer=REGULARIZER),
    ),
)
'''


@pytest.fixture
def hpo(fork_server: ForkServer, tmp_path: Path) -> CommandLine:
    command_line = CommandLine(fork_server, tmp_path / "work")
    command_line.write_study("tiny", STUDY)
    return command_line


def text_of(child: LoggedChild, code: int) -> str:
    """All that a command has printed, which holds no control character."""
    assert child.wait(120) == code, child.text()
    printed = child.text()
    assert not CONTROL.search(printed), ascii(printed)
    return printed


def test_no_command_prints_a_control_character(hpo: CommandLine) -> None:
    name = f"[b]{SEQUENCE}"
    (hpo.folder / "always").touch()
    assert SHOWN in text_of(hpo.start("run", "tiny", "--workers", "1"), 1)
    (hpo.folder / "always").unlink()
    ran = text_of(hpo.start("run", "tiny", "--workers", "1"), 1)
    assert SHOWN in ran and "ValueError" in ran
    assert SHOWN in text_of(hpo.start("worker", "tiny", "--name", "another"), 0)
    assert SHOWN in text_of(hpo.start("status", "tiny"), 0)
    assert "\\u001b" in text_of(hpo.start("status", "tiny", "--json"), 0)
    assert SHOWN in text_of(hpo.start("status", "tiny", "--watch", "0.2"), 0)
    assert SHOWN in text_of(hpo.start("report", "tiny"), 0)
    assert SHOWN in text_of(hpo.start("report", "tiny", "--compare"), 0)
    tried = text_of(hpo.start("try", "tiny", "-c", name, "rank=1"), 1)
    assert "ValueError" in tried and SHOWN in tried and "Traceback into your code" in tried
    assert "\\x1b" in text_of(hpo.start("try", "tiny", "-c", name, f"x{SEQUENCE}=1"), 2)
    assert SHOWN in text_of(hpo.start("try", "tiny", "-c", f"none{SEQUENCE}"), 2)
    assert "\\x1b" in text_of(hpo.start("status", f"none{SEQUENCE}"), 2)
    for words in (("list",), ("list", "--json"), ("doctor",)):
        assert text_of(hpo.start(*words), 0)
    for path in (hpo.folder / "reports").rglob("*"):
        if path.suffix in (".md", ".csv", ".tex", ".json", ".html"):
            assert not CONTROL.search(path.read_text(encoding="utf-8")), path
