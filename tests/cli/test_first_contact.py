"""What the command line does before there is any study."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpo import __version__
from hpo.cli import main


@pytest.mark.parametrize(("words", "code"), [(["status"], 0), (["status", "typo"], 2)])
def test_status_creates_no_database(
    words: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPO_STORAGE", raising=False)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    monkeypatch.setattr("sys.argv", ["hpo", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == code
    assert ("no studies yet" in capsys.readouterr().out) == (code == 0)
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["hpo", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None) and capsys.readouterr().out.strip() == __version__


@pytest.mark.skipif(shutil.which("unshare") is None or os.getuid() != 0, reason="needs root and unshare")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_process_1_of_a_container_obeys_a_signal_while_it_starts(number: signal.Signals, tmp_path: Path) -> None:
    """Process 1 ignores signals that it has no handler for."""
    (tmp_path / "slow.py").write_text('import time\nopen("started", "w").close()\ntime.sleep(60)\n')
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-m", "hpo", "worker", "slow.py"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as outside:
        try:
            while not (tmp_path / "started").exists():
                assert outside.poll() is None, outside.communicate()[1]
                time.sleep(0.05)
            (inside,) = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
            os.kill(int(inside), number)
            assert outside.wait(10) == 128 + number
        finally:
            outside.kill()
