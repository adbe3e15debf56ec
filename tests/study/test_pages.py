"""The pages for readers: their examples run, name every field, and their links lead somewhere."""

import dataclasses
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import hpo
from hpo.study.definition import describe

ROOT = Path(hpo.__file__).parents[1]
PAGES = [
    "README.md", "studies/README.md", "hpo/README.md", "hpo/worker/README.md", "reports/README.md",
    ".github/CONTRIBUTING.md",
]  # fmt: skip


def examples(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def names_after(*sources: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "study_of_a_page"}
    for source in sources:
        exec(source, names)
    return names


def test_the_first_page_has_a_study() -> None:
    (example,) = examples("README.md")
    study = names_after(example)["STUDY"]
    assert describe(study)["configurations"][1]["regularizer"] == "mine"


def test_every_field_of_a_study_has_its_default_as_an_example() -> None:
    source = examples("studies/README.md")[0]
    study = names_after(source)["STUDY"]
    shown = {"data", "model", "baseline", "configurations", "schedule", "tuning_runs", "defined_in", "score"}
    for field in dataclasses.fields(hpo.Study):
        assert field.name == "defined_in" or re.search(rf"\b{field.name}=", source), field.name
        if field.name not in shown:
            default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
            assert getattr(study, field.name) == default, field.name
    assert study.tuning_runs == 3 and study.schedule == hpo.Constant()
    assert study.score == "validation_accuracy"
    for field in dataclasses.fields(hpo.Configuration)[1:]:
        assert re.search(rf"\b{field.name}=", source), field.name


def test_custom_parts_run_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:  # noqa: ARG001
    parts = names_after(*examples("studies/README.md")[1:])
    study = hpo.Study(
        name="page",
        data=parts["TwoMoons"](samples=100),
        model=hpo.MLP((2, 8, 2)),
        loss=parts["focal_loss"],
        schedule=parts["halve_every_ten_epochs"],
        metrics={"rank": parts["rank"]},
        score="validation_rank",
        direction="minimize",
        epochs=1,
        trials=1,
        seeds=1,
        baseline="SGD",
        configurations=(
            hpo.Configuration("SGD", optimizer=parts["SIGN_SGD"]),
            hpo.Configuration("Averaged", optimizer=parts["SIGN_SGD"], regularizer=parts["AVERAGED"]),
        ),
    )
    monkeypatch.chdir(tmp_path)
    results = hpo.run(study, storage=f"sqlite:///{tmp_path}/t.db", reports=tmp_path / "reports")
    assert "rank" in results.report.read_text()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    assert links
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = unquote(link).partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), link
        if target and listed.returncode == 0 and file.is_file():
            assert str(file.relative_to(ROOT)) in listed.stdout.split("\n"), f"{link} is not committed"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, link
