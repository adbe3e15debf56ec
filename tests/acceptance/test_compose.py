"""docker-compose.yml: what it promises, read from the file, and its command lines run against a real server."""

import base64
import json
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import CommandLine
from fork_server import ForkServer, LoggedChild
from postgres_server import PostgresServer

from hpo.storage.database import connect
from hpo.storage.ledger import load_study

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
OWN = {name: service for name, service in SERVICES.items() if name != "db"}
SECRETS = {"PGPASSWORD": "s3cret-database", "HPO_DASHBOARD_PASSWORD": "s3cret-dashboard"}
VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?:(:-|:\?)([^}]*))?\})")

STUDY = '''
"""A tiny study."""

from hpo import MLP, Configuration, Mnist1d, Study, log_range

RATE = {"learning_rate": log_range(1e-3, 1e-2)}

STUDY = Study(
    data=Mnist1d(samples=200),
    model=MLP((40, 8, 10)),
    epochs=1,
    trials=2,
    seeds=2,
    tuning_runs=1,
    baseline="Adam",
    configurations=(Configuration("Adam", optimizer="adam", space=RATE), Configuration("AdamW", space=RATE)),
)
'''


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """A value with its variables filled in as Compose does; KeyError where one is demanded and missing or empty."""
    if isinstance(value, dict):
        return {key: interpolated(entry, variables) for key, entry in value.items()}
    if isinstance(value, list):
        return [interpolated(entry, variables) for entry in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name, sign, text = match.groups()
        if name is None:
            return "$"
        found = variables.get(name, "")
        if sign == ":?" and not found:
            raise KeyError(f"{name}: {text}")
        return found or (text if sign == ":-" else "")

    return VARIABLE.sub(fill, value)


def test_the_services_are_there() -> None:
    assert set(SERVICES) == {"db", "worker", "worker-cpu", "dashboard", "report"}
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    assert profiles == {"db": None, "worker": None, "worker-cpu": ["cpu"], "dashboard": None, "report": ["report"]}


def test_every_image_is_pinned() -> None:
    project = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project is not None
    images = {service["image"] for service in SERVICES.values()}
    assert images == {"postgres:17.6-bookworm", f"hpo:{project[1]}"}
    bases = {line for service in OWN.values() for line in service["build"]["dockerfile_inline"].splitlines()}
    assert {line for line in bases if line.startswith("FROM")} == {"FROM python:3.11.13-slim-bookworm"}
    assert "latest" not in TEXT


def test_one_image_is_built_from_the_pinned_packages() -> None:
    (build,) = {json.dumps(service["build"]) for service in OWN.values()}
    recipe: str = interpolated(json.loads(build)["dockerfile_inline"], {})
    assert "pip install -c constraints.txt" in recipe
    for copied in re.findall(r"^COPY (.*) \S+$", recipe, re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())
    script = re.search(r"&& (pip install .*)$", recipe, re.MULTILINE)
    assert script is not None
    for index, words in (
        ("", []),
        ("https://download.example/cpu", ["--extra-index-url", "https://download.example/cpu"]),
    ):
        shell = ["sh", "-euc", 'pip() { printf "%s\\n" "$@"; }; ' + script[1]]
        done = subprocess.run(shell, env={"TORCH_INDEX": index}, capture_output=True, text=True, check=True)
        assert done.stdout.split("\n")[:-1] == ["install", "-c", "constraints.txt", *words, ".[postgres,digits]"]


def test_the_database_keeps_to_itself() -> None:
    db = SERVICES["db"]
    assert "ports" not in db and "network_mode" not in db
    assert db["volumes"] == ["database:/var/lib/postgresql/data"]
    assert db["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert "--host=127.0.0.1" in db["healthcheck"]["test"], "its socket answers before it is ready"
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [interpolated(port, {}) for port in published] == ["127.0.0.1:8080:8080"]


def test_everything_waits_until_the_database_is_healthy() -> None:
    for service in OWN.values():
        assert service["depends_on"] == {"db": {"condition": "service_healthy"}}


def test_there_is_no_secret_in_the_file() -> None:
    """And none in a URL or a command, which others on the machine can see."""
    for name in SECRETS:
        with pytest.raises(KeyError, match=name):
            interpolated(SERVICES, {other: secret for other, secret in SECRETS.items() if other != name})
    filled = interpolated(SERVICES, SECRETS)
    for service in filled.values():
        secret = {key: value for key, value in service["environment"].items() if "PASSWORD" in key}
        assert secret and set(secret.values()) <= set(SECRETS.values())
        others = {key: value for key, value in service.items() if key != "environment"}
        rest = {key: value for key, value in service["environment"].items() if key not in secret}
        assert "s3cret" not in json.dumps([others, rest])
    for name, service in filled.items():
        assert (SECRETS["HPO_DASHBOARD_PASSWORD"] in service["environment"].values()) == (name == "dashboard")


def test_workers_may_be_many_and_end_in_order() -> None:
    for name in ("worker", "worker-cpu"):
        service = interpolated(SERVICES[name], SECRETS | {"WORKERS": "8", "STUDY": "vasso:cifar10"})
        assert service["deploy"]["replicas"] == "8" and service["command"][:3] == ["hpo", "worker", "vasso:cifar10"]
        assert service["stop_signal"] == "SIGTERM" and service["init"] is True
        assert int(service["stop_grace_period"].removesuffix("s")) >= 15, (
            "a worker ends within 5 s, here on a busy machine"
        )
        assert "container_name" not in service and "ports" not in service, "both would keep it from being scaled"
    (gpu,) = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpu["driver"] == "nvidia" and gpu["capabilities"] == ["gpu"] and len(gpu["device_ids"]) == 1
    assert "resources" not in SERVICES["worker-cpu"]["deploy"]
    allowed = next(int(part.partition("=")[2]) for part in SERVICES["db"]["command"] if "max_connections" in part)
    assert allowed >= 2 * 128


def test_no_container_runs_as_root_or_may_become_it() -> None:
    for service in OWN.values():
        assert interpolated(service["user"], {}) == "1000:1000"
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service


@pytest.fixture
def database(postgresql: PostgresServer) -> Iterator[str]:
    """A new, empty database on the test server; its URL with the password in it."""
    url = postgresql.create()
    yield url
    postgresql.drop(url)


class Stack:
    """The services' command lines as processes of this machine, with the test server in place of `db`."""

    def __init__(self, hpo: CommandLine, server: PostgresServer, database: str) -> None:
        self.hpo, self.server = hpo, server
        self.address = f"@127.0.0.1:{server.port}/{database.rpartition('/')[2]}"

    def start(self, name: str, *more: str) -> LoggedChild:
        service = interpolated(SERVICES[name], SECRETS | {"PGPASSWORD": self.server.password, "STUDY": "tiny"})
        environment: dict[str, str] = service["environment"]
        assert environment["HPO_STORAGE"].endswith("@db/hpo")
        environment["HPO_STORAGE"] = environment["HPO_STORAGE"].replace("@db/hpo", self.address)
        for variable in ("HPO_CACHE", "HPO_CHECKPOINTS"):  # both are volumes
            assert any(volume.endswith(f":{environment[variable]}") for volume in service["volumes"])
            environment[variable] = str(self.hpo.folder.parent) + environment[variable]
        assert service["command"][0] == "hpo"
        return self.hpo.start(*service["command"][1:], *more, **environment)

    def finish(self, name: str) -> str:
        child = self.start(name)
        output = self.hpo.finish(child)
        assert self.server.password not in child.text()
        return output


def visit(port: int, path: str, password: str | None, host: str) -> tuple[int, bytes]:
    """Status and body of a page, requested as a browser does through the published port."""
    headers = {"Host": host}
    if password is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"me:{password}".encode()).decode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=30
        ) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_command_lines_work_against_a_real_server(
    fork_server: ForkServer, postgresql: PostgresServer, database: str, tmp_path: Path
) -> None:
    hpo = CommandLine(fork_server, tmp_path / "work")  # the containers' working folder
    hpo.write_study("tiny", STUDY)
    stack = Stack(hpo, postgresql, database)
    stack.finish("worker-cpu")
    engine = connect(database)
    assert load_study(engine, "tiny").state() == "done"
    engine.dispose()
    stack.finish("worker")  # another one, which finds nothing to do
    assert "report: reports/tiny/README.md" in stack.finish("report")
    assert "AdamW against Adam" in (hpo.folder / "reports" / "tiny" / "README.md").read_text()

    dashboard = stack.start("dashboard", "--port", "0")
    try:
        port = wait_for_port(dashboard)
        secret = SECRETS["HPO_DASHBOARD_PASSWORD"]
        for host in ("127.0.0.1:8080", "localhost:8080", f"{socket.gethostname()}:8080"):
            status, body = visit(port, "/api/studies", secret, host)
            assert status == 200 and len(json.loads(body)["study_summaries"]) == 5
        assert visit(port, "/reports/tiny/", secret, "localhost:8080")[0] == 200
        for wrong in (None, "", postgresql.password):
            assert visit(port, "/api/studies", wrong, "localhost:8080")[0] == 401
        assert visit(port, "/api/studies", secret, "evil.example:8080")[0] == 403
        dashboard.send_signal(signal.SIGTERM)
        assert "Traceback" not in hpo.finish(dashboard, code=128 + signal.SIGTERM)
    finally:
        dashboard.kill()


def wait_for_port(dashboard: LoggedChild) -> int:
    while not (address := re.search(r"http://\S+:(\d+)/", dashboard.text())):
        assert dashboard.poll() is None, dashboard.text()
        time.sleep(0.02)
    return int(address[1])
