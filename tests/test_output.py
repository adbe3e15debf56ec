"""What hpo writes to a terminal or a log: no text from outside can change the terminal."""

import ast
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from hpo import output
from hpo.output import visible, write_line

PACKAGE = Path(output.__file__).parent
CLEAR, TITLE = "\x1b[2J", "\x1b]0;owned\x07"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (CLEAR, "\\u001b[2J"),
        (TITLE, "\\u001b]0;owned\\u0007"),
        ("\x9b31m", "\\u009b31m"),
        ("a\rb\x08c\x7f\x00", "a\\u000db\\u0008c\\u007f\\u0000"),
        ("\u202etxt.exe\u2028x\u2066", "\\u202etxt.exe\\u2028x\\u2066"),
        ("\ud800", "\\ud800"),
        ("line\nline\t", "line\\u000aline\\u0009"),
        ("λ ρ′ 中文 é – 𝛼 🎲 C:\\new", "λ ρ′ 中文 é – 𝛼 🎲 C:\\new"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown
    shown.encode()


def test_every_character_that_a_terminal_obeys_is_escaped() -> None:
    """A slow second version: by the categories of Unicode instead of ranges."""
    from unicodedata import bidirectional, category

    directions = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        obeyed = category(character) in ("Cc", "Cs", "Zl", "Zp") or bidirectional(character) in directions
        obeyed |= character in "\u200e\u200f\u061c"
        assert (visible(character) != character) == obeyed, hex(number)


def test_lines_keep_their_breaks_and_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    write_line(f"one\n\ttwo {CLEAR}")
    write_line(TITLE, error=True)
    printed = capsys.readouterr()
    assert printed.out == "one\n\ttwo \\u001b[2J\n" and printed.err == "\\u001b]0;owned\\u0007\n"
    assert json.loads(visible(json.dumps({"a": CLEAR + "\x7f"}))) == {"a": CLEAR + "\x7f"}, "JSON stays JSON"


def test_nothing_is_printed_except_through_this_module() -> None:
    """`Display` and `watch_status` use rich, and escape what they give to it."""
    allowed = {("output.py", "print"), ("cli/terminal/progress.py", "self.console.print")}
    allowed |= {("cli/terminal/watch.py", "console.file.write"), ("bench/startup.py", "print")}
    allowed |= {("bench/plain_script.py", "print")}  # a script without hpo
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called, name = ast.unparse(node.func), str(path.relative_to(PACKAGE))
                printed = called in ("print", "typer.echo", "click.echo", "warnings.warn")
                if printed or called.endswith(("console.print", "stdout.write", "stderr.write", "console.file.write")):
                    found.add((name, called))
    assert found <= allowed, found - allowed


PROGRAM = """
import logging, sys, threading, warnings
from hpo.output import guard_reports_of_python
guard_reports_of_python()
TEXT = "\\x1b[2J\\x1b]0;owned\\x07\\u202e"
warnings.warn(TEXT)
logging.getLogger("waitress").error("while serving %s", TEXT)
try:
    raise ValueError(TEXT)
except ValueError:
    logging.getLogger("hpo").exception("the report could not be written")
def fail():
    raise KeyError(TEXT)
thread = threading.Thread(target=fail)
thread.start(); thread.join()
raise RuntimeError(TEXT)
"""


def test_what_python_itself_writes_is_escaped_as_well() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert "\x1b" not in done.stderr and "\x07" not in done.stderr and "\u202e" not in done.stderr
    for words in (
        "UserWarning: \\u001b",
        "while serving \\u001b",
        "ValueError: \\u001b",
        "KeyError",
        "RuntimeError: \\u001b",
    ):
        assert words in done.stderr, words
    assert "Traceback" in done.stderr


def test_a_formatter_of_somebody_else_is_not_touched() -> None:
    assert logging.lastResort is not None
    assert output.VisibleFormatter("%(message)s").format(logging.makeLogRecord({"msg": CLEAR})) == "\\u001b[2J"
