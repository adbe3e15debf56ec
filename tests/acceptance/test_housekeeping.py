"""Whole studies by the real commands: what they say, ask and refuse, and that results are as they were."""

import os
import pty
import shutil
import sys
from pathlib import Path

import pytest
from command_line import CommandLine
from fork_server import ForkServer

STUDY = """
from hpo import MLP, Configuration, Mnist1d, Study

STUDY = Study(
    data=Mnist1d(samples=400), model=MLP((40, 8, 10)), baseline="AdamW", epochs=2, trials=2, seeds=3, tuning_runs=3,
    configurations=(Configuration("AdamW"), Configuration("SAM", regularizer="sam")),
)
"""


@pytest.fixture
def hpo(fork_server: ForkServer, tmp_path: Path) -> CommandLine:
    storage = f"sqlite:///{tmp_path}/t.db"
    line = CommandLine(fork_server, tmp_path / "project", HPO_STORAGE=storage, HPO_CACHE=str(tmp_path / "cache"))
    line.write_study("one", STUDY)
    line.run("run", "one", "--workers", "1")
    return line


def reruns(hpo: CommandLine, name: str) -> str:
    return (hpo.folder / "reports" / name / "reruns.csv").read_text()


def answered(hpo: CommandLine, answer: str, *words: str) -> tuple[int, str]:
    """The exit code and output of a command in a terminal where a person types an answer."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(hpo.folder)
        environment = {**os.environ, **hpo.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
        os.execve(sys.executable, [sys.executable, "-m", "hpo", *words], environment)
    os.write(terminal, f"{answer}\n".encode())
    text = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # Linux says so at the end
            break
        if not part:
            break
        text += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), text.decode()


def test_what_deletes_results_says_what_and_wants_an_answer(hpo: CommandLine) -> None:
    for words in (("delete", "one"), ("run", "one", "--fresh")):
        message = hpo.run(*words, code=2)
        assert "12 trials and 6 reruns" in message and "--yes" in message and message.count("\n") == 1
    code, text = answered(hpo, "n", "delete", "one")
    assert code == 1 and "12 trials and 6 reruns" in text and "Nothing was deleted" in text
    assert hpo.run("status", "one").count("6/6") == 2
    code, text = answered(hpo, "y", "delete", "one")
    assert code == 0 and "deleted one" in text
    assert "no study 'one'" in hpo.run("delete", "one", "--yes", code=2)


def test_a_renamed_file_is_offered_its_results(hpo: CommandLine) -> None:
    before = reruns(hpo, "one")
    shutil.copy(hpo.folder / "studies" / "one.py", hpo.folder / "studies" / "copy.py")
    (hpo.folder / "studies" / "one.py").rename(hpo.folder / "studies" / "two.py")
    message = hpo.run("run", "two", code=2)
    assert "hpo rename one two" in message and message.count("\n") == 1
    code, text = answered(hpo, "y", "run", "two", "--workers", "1")
    assert code == 0, text
    assert reruns(hpo, "two") == before
    assert "hpo run two" in (hpo.folder / "reports" / "two" / "README.md").read_text()
    hpo.run("run", "copy", "--workers", "1")  # the file of the name that has the results exists: no offer


def test_results_whose_file_exists_are_not_offered(hpo: CommandLine) -> None:
    hpo.run("rename", "one", "first")  # as if run with --name first
    hpo.run("run", "one", "--workers", "1")
    assert reruns(hpo, "one") != ""
    (hpo.folder / "elsewhere").mkdir()
    for name in ("three", "four"):
        shutil.copy(hpo.folder / "studies" / "one.py", hpo.folder / "elsewhere" / f"{name}.py")
        hpo.run("run", f"elsewhere/{name}.py", "--workers", "1")


def test_a_study_goes_through_a_file_and_is_the_same_study(hpo: CommandLine, tmp_path: Path) -> None:
    before = reruns(hpo, "one")
    assert hpo.run("export", "one", "--format", "study", "--to", "one.hpo").strip() == "one.hpo"
    other = f"sqlite:///{tmp_path}/other.db"
    assert "imported one" in hpo.run("import", "one.hpo", "--storage", other)
    hpo.run("run", "one", "--storage", other, "--reports", "others")
    assert (hpo.folder / "others" / "one" / "reruns.csv").read_text() == before, "nothing was trained again"
    (hpo.folder / "junk.hpo").write_text("no study")
    message = hpo.run("import", "junk.hpo", code=2)
    assert message.startswith("hpo: ") and message.count("\n") == 1


def test_files_stay_or_move_and_this_is_said(hpo: CommandLine) -> None:
    (hpo.folder / "weights" / "one").mkdir(parents=True)
    said = hpo.run("rename", "one", "two")
    assert "weights/one to weights/two" in said and "reports/one stays" in said
    assert (hpo.folder / "weights" / "two").is_dir() and (hpo.folder / "reports" / "one").is_dir()
    said = hpo.run("delete", "two", "--yes")
    assert "rm -r weights/two" in said and (hpo.folder / "weights" / "two").is_dir()


def test_what_is_no_export_and_no_url_is_answered_with_what_to_write(hpo: CommandLine) -> None:
    (hpo.folder / "x.json").write_text("{}")
    assert "hpo export STUDY --format study" in hpo.run("import", "x.json", code=2)
    assert "sqlite:///other.db" in hpo.run("copy", "one", "--to", "other.db", code=2)
    assert "secret" not in hpo.run("copy", "one", "--to", "me:secret@host/file.db", code=2)
