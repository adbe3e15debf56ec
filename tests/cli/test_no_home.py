"""A user id without an account, and no HOME, as in containers: commands work, or say in a sentence what is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
from fork_server import ROOT

STUDY = """
from hpo import MLP, Configuration, Mnist1d, Study
STUDY = Study(data=Mnist1d(samples=100), model=MLP((40, 10)), epochs=1, baseline="A", configurations=(
    Configuration("A"), Configuration("B", regularizer="sam")))
"""
NAMELESS = ["unshare", "--user", "--map-user=12345", "--map-group=12345", "env", "-i", f"PYTHONPATH={ROOT}"]


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "studies").mkdir(exist_ok=True)
    (folder / "studies" / "small.py").write_text(STUDY)
    variables = [f"{name}={value}" for name, value in environment.items()]
    command = [*NAMELESS, *variables, sys.executable, "-m", "hpo", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(autouse=True)
def _user_namespaces() -> None:
    try:
        allowed = subprocess.run([*NAMELESS, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("this machine has no user namespaces")


def test_a_missing_home_is_one_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, "try", "small", "-c", "A")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "there is none; set HPO_CACHE" in done.stderr
    checks = run(tmp_path, "doctor").stdout
    assert "HPO_CACHE" in checks and "please report" not in checks, checks


def test_a_study_runs_without_a_home(tmp_path: Path) -> None:
    words = ("run", "small", "--trials", "1", "--seeds", "1", "--tuning-runs", "1", "--workers", "1")
    done = run(tmp_path, *words, HPO_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report: reports/small/README.md" in done.stdout and "atplotlib" not in done.stderr, done.stderr
