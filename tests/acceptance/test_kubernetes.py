"""The Kubernetes Job of hpo/worker/README.md: which ends count as failures, and the API's schema."""

import re
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
README = (ROOT / "hpo" / "worker" / "README.md").read_text(encoding="utf-8")
(JOB,) = (
    document
    for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    if (document := yaml.safe_load(block))["kind"] == "Job"
)
SPEC: dict[str, Any] = JOB["spec"]
POD: dict[str, Any] = SPEC["template"]["spec"]
(WORKER,) = POD["containers"]


def action(exit_code: int, *conditions: str) -> str:
    """What the Job does with a pod that failed: the first rule that matches decides, as the API says."""
    for rule in SPEC["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes")
        if codes and codes["containerName"] == WORKER["name"]:
            assert codes["operator"] in ("In", "NotIn") and 0 not in codes["values"]
            if (exit_code in codes["values"]) == (codes["operator"] == "In"):
                return str(rule["action"])
        if any(pattern["type"] in conditions for pattern in rule.get("onPodConditions", [])):
            return str(rule["action"])
    return "Count"


def test_planned_stops_do_not_count_as_failures() -> None:
    assert action(128 + signal.SIGTERM) == "Ignore"
    assert action(128 + signal.SIGALRM) == "Ignore", "the end of --max-time"
    assert action(128 + signal.SIGKILL, "DisruptionTarget") == "Ignore", "a drained, preempted or lost node"
    assert action(1) == "Count" and action(128 + signal.SIGKILL) == "Count" and action(2) == "FailJob"


def test_the_job_keeps_its_workers_until_the_study_is_finished() -> None:
    assert SPEC["completionMode"] == "Indexed" and SPEC["completions"] == SPEC["parallelism"] > 1
    assert POD["restartPolicy"] == "Never", "podFailurePolicy asks for it"
    assert WORKER["command"][:2] == ["hpo", "worker"]
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None and WORKER["image"].endswith(f"/hpo:{version[1]}")


def test_the_database_comes_from_a_secret() -> None:
    assert WORKER["envFrom"] == [{"secretRef": {"name": "hpo"}}] and "env" not in WORKER
    assert "kubectl create secret generic hpo" in README


@pytest.mark.parametrize("version", ["1.31", "1.34", "1.37"])
def test_the_job_fits_the_schema_of_the_api(version: str) -> None:
    """Strictly: an unknown field is an error."""
    reason = "the schemas take 72 MB, so that no extra has them: pip install kubernetes-validate"
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason=reason)
    kubernetes_validate.validate(JOB, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**JOB, "spec": {**SPEC, "podFailurePolice": {}}}, version, strict=True)
