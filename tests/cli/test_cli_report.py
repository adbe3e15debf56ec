"""`hpo report`: one study, several, in one file, side by side, and where there is nothing to report."""

import re
import sys
from pathlib import Path

import pytest

from hpo import api, cli
from hpo.storage.database import connect
from hpo.storage.ledger import load_study
from tests.report.golden_studies import STUDIES


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("HPO_STORAGE", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def made(folder: Path) -> Path:
    """A folder whose database has two finished studies and one under way."""
    engine = connect(f"sqlite:///{folder}/hpo.db")
    for make in STUDIES.values():
        make(engine)
    engine.dispose()
    return folder


def hpo(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hpo", *arguments])
    try:
        cli.main()
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0


def test_an_empty_folder_stays_empty(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo(monkeypatch, "report", "gnvr") == 2
    said = capsys.readouterr().err
    assert said == (
        "hpo: there is no database sqlite:///hpo.db yet; `hpo run STUDY` makes it, --storage names another\n"
    )
    assert list(folder.iterdir()) == []


def test_one_study(made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert hpo(monkeypatch, "report", "plain") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "report: reports/plain/README.md"
    assert said[0].startswith("GNVR against AdamW: tentatively better; Δ = +") and "*" not in said[0]
    assert said[1].startswith("warning: Few trials a tuning run: AdamW has 4 for 2 hyperparameters, GNVR has 4 for 3")
    assert len(said) == 3
    assert sorted(path.name for path in (made / "reports").iterdir()) == ["plain", "plotly.min.js"]


def test_several_studies_and_one_file_each(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo(monkeypatch, "report", "plain", "under_way", "plain", "--standalone", "--reports", "r") == 0
    said = capsys.readouterr().out
    assert re.findall("^report: (.*)$", said, re.MULTILINE) == ["r/plain/README.md", "r/under_way/README.md"]
    assert "a|b_c 50% against AdamW: " in said and "GNVR and a|b_c 50% have 3 for 3 hyperparameters" in said
    assert sorted(path.name for path in (made / "r").iterdir()) == ["plain", "under_way"]
    assert "plotly.js v" in (made / "r" / "plain" / "report.html").read_text(encoding="utf-8")


def test_an_unknown_study_writes_nothing(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo(monkeypatch, "report", "plain", "plane") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "there is no study 'plane'" in said and "did you mean 'plain'?" in said
    assert not (made / "reports").exists()


@pytest.mark.parametrize("standalone", [False, True])
def test_studies_side_by_side(
    standalone: bool, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ["--standalone"] if standalone else []
    assert hpo(monkeypatch, "report", "plain", "under_way", "--compare", *extra) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["plain", "under_way", "under_way", "report"]
    assert said[-1] == "report: reports/compare-plain-under_way/README.md"
    readme = (made / said[-1].removeprefix("report: ")).read_text(encoding="utf-8")
    assert "\nhpo report plain under_way --compare\n" in readme
    assert (made / "reports" / "plotly.min.js").exists() != standalone
    page = (made / "reports" / "compare-plain-under_way" / "report.html").read_text(encoding="utf-8")
    assert ("plotly.js v" in page) == standalone


def test_one_study_alone_can_be_compared(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hpo(monkeypatch, "report", "under_way", "--compare") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "report: reports/compare-under_way/README.md"
    text = (made / "reports" / "compare-under_way" / "README.md").read_text(encoding="utf-8")
    assert "1 study, judged by its own numbers alone." in text


def test_a_comparison_of_many_has_a_folder_with_a_short_name(made: Path) -> None:
    engine = connect(f"sqlite:///{made}/hpo.db")
    ledgers = [load_study(engine, "plain") for _ in range(20)]
    path = api.compare(ledgers, made / "reports")
    assert re.fullmatch(r"compare-plain-and-19-more-[0-9a-f]{8}", path.parent.name)
    assert api.compare(ledgers[:19], made / "reports").parent.name != path.parent.name
