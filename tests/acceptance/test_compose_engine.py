"""docker-compose.yml run by Docker or Podman: built, a study trained by two workers, its pages, its report.

HPO_TEST_COMPOSE names another command, such as "podman-compose --podman-build-args=--network=host". Where there is no
engine, or it has no images and no registry, `test_compose.py` runs what can be run without: the recipe's pip command,
and each service's command line against a real PostgreSQL.
"""

import base64
import json
import os
import shlex
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.acceptance.test_compose import STUDY

ROOT = Path(__file__).parents[2]
PASSWORD, DATABASE_PASSWORD = "s3cret-dashboard", "s3cret-database"


def _done(*command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def find_compose() -> list[str]:
    """The Compose command of an engine; skips the test with the reason where a container cannot run."""
    given = shlex.split(os.environ.get("HPO_TEST_COMPOSE", ""))
    candidates = [("docker", ["docker", "compose"]), ("podman", ["podman-compose"])]
    candidates = [("podman" if "podman" in given[0] else "docker", given)] if given else candidates
    reasons = []
    for engine, compose in candidates:
        if shutil.which(engine) is None or shutil.which(compose[0]) is None:
            reasons.append(f"{engine} or {compose[0]} is not installed")
            continue
        images = [yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["db"]["image"]]
        images += ["python:3.11.13-slim-bookworm"]
        commands = [[engine, "info"], [*compose, "version"]]
        commands += [[engine, "run", "--rm", "--entrypoint", "true", f"docker.io/library/{image}"] for image in images]
        failed = next(
            (done for done in (_done(*command, timeout=600) for command in commands) if done.returncode), None
        )
        if failed is None:
            return compose
        last = (failed.stderr.strip().splitlines() or [f"exit code {failed.returncode}"])[-1]
        reasons.append(f"{shlex.join(failed.args)}: {last}")
    pytest.skip("; ".join(reasons))


class Stack:
    """The services of a copy of the project, under a name of their own."""

    def __init__(self, compose: list[str], folder: Path) -> None:
        self.folder, self._compose = folder, compose
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.environment = os.environ | {
            "PGPASSWORD": DATABASE_PASSWORD, "HPO_DASHBOARD_PASSWORD": PASSWORD, "STUDY": "tiny", "WORKERS": "2",
            "DASHBOARD_PORT": str(self.port), "HPO_UID": str(os.getuid()), "HPO_GID": str(os.getgid()),
            "COMPOSE_PROJECT_NAME": f"hpo-test-{uuid.uuid4().hex[:8]}",
            "HPO_TORCH_INDEX": "https://download.pytorch.org/whl/cpu" if "HPO_TEST_COMPOSE" not in os.environ else "",
        }  # fmt: skip

    def __call__(self, *words: str, check: bool = True) -> str:
        command = [*self._compose, "--profile", "cpu", "--profile", "report", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=1800, check=False
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"[-4000:]
        return done.stdout

    def status(self) -> str:
        """The study's state, "" while there is none."""
        text = self("exec", "-T", "dashboard", "hpo", "status", "--json", check=False)
        studies = json.loads(text[text.index("{") :]) if "{" in text else {}
        return str(studies.get("tiny", {}).get("state", ""))

    def visit(self, path: str, password: str) -> tuple[int, str]:
        given = {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}
        try:
            asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=given)
            with urllib.request.urlopen(asked, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    compose = find_compose()
    files = _done("git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "hpo", "studies", "*.*", "LICENSE")
    for name in files.stdout.splitlines():
        if name.startswith(("hpo/", "studies/")) or "/" not in name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "studies" / "tiny.py").write_text(STUDY)
    (tmp_path / "reports").mkdir()
    stack = Stack(compose, tmp_path)
    try:
        yield stack
    finally:
        stack("down", "--volumes", check=False)


def test_the_stack_trains_a_study_and_shows_it(stack: Stack) -> None:
    stack("build", "worker-cpu")
    stack("up", "--detach", "db", "dashboard", "worker-cpu")
    deadline = time.monotonic() + 600
    while stack.status() != "done":
        assert time.monotonic() < deadline, stack("logs", check=False)
        time.sleep(2)
    status, page = stack.visit("/reports/", PASSWORD)
    assert status == 200 and "<td>tiny</td><td>finished</td><td>4/4</td><td>4/4</td>" in page
    assert stack.visit("/reports/", "guess")[0] == 401
    stack("run", "--rm", "report")
    readme = stack.folder / "reports" / "tiny" / "README.md"
    assert "AdamW against Adam" in readme.read_text() and readme.stat().st_uid == os.getuid()
    logs = stack("logs", check=False)
    assert PASSWORD not in logs and DATABASE_PASSWORD not in logs
