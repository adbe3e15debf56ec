"""reports/README.md: its numbers and verdicts are those of the kept reports, each with a link to its report."""

import gzip
import json
import re
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pages
import pytest
import renew
from synthetic_record import synthetic_record

from hpo.report import write_report
from hpo.report.results_json import as_json
from hpo.study import loading
from hpo.study.definition import describe
from tests.report.moments import MOMENTS, numbers_of

ROOT = Path(__file__).parents[2]
MAX_BYTES = 12_000_000  # of all files, compressed one by one as Git does
STUDY = "shown"
STEP_TIMES = [
    {"configuration": "GNVR", "population": population, "ms": 1.0, "ratio": ratio, "low": 1.0, "high": 3.0}
    for population, ratio in ((1, 2.2), (5, 1.7))
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study in which GNVR is ahead, with its pictures."""
    accuracies = {"AdamW": [0.50, 0.51, 0.52, 0.53, 0.54], "GNVR": [0.561, 0.572, 0.583, 0.592, 0.601]}
    record = synthetic_record(accuracies=accuracies, tuning_runs=5, seeds=5)
    record.study["step_times"] = {"device": "a CPU", "threads": 1, "time": 0.0, "rows": STEP_TIMES}
    return write_report(record, tmp_path_factory.mktemp("reports") / STUDY, STUDY, ["hpo run shown"]).parent


@pytest.fixture
def results(report: Path) -> dict[str, Any]:
    return json.loads((report / "results.json").read_text(encoding="utf-8"))


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """An empty place for reports, with a template."""
    (tmp_path / "reference").mkdir()
    (tmp_path / "README.md.in").write_text("# Results\n\n- It gains {shown:GNVR:difference}.\n\n{table}\n")
    return tmp_path


def test_the_pages_are_those_of_the_kept_reports() -> None:
    templates = sorted(pages.REPORTS.glob("*.md.in"))
    assert len(templates) >= 2
    for template in templates:
        page = pages.fill(template.read_text(encoding="utf-8"), pages.load(), pages.old())
        assert template.with_suffix("").read_text(encoding="utf-8") == page, "run: python reports/renew.py"


def test_the_templates_name_studies_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the first report that is kept shows it, hours later."""
    monkeypatch.chdir(ROOT)
    for template in pages.REPORTS.glob("*.md.in"):
        for name, names, _ in pages.REFERENCE.findall(template.read_text(encoding="utf-8")):
            study, _, variant = name.partition("-")
            definition = describe(loading.load(f"{study}:{variant}" if variant else study))
            entries = definition["configurations"]
            planned = {f"{entry['name']} against {other}" for entry in entries for other in entry.get("against", {})}
            assert names in {"", *(entry["name"] for entry in entries)} | planned, (name, names)


@pytest.mark.parametrize("moment", [*MOMENTS])
def test_studies_with_losses_have_a_row(moment: str) -> None:
    results = json.loads(json.dumps(as_json(numbers_of(moment)), allow_nan=False))
    [*_, row] = pages.study_table({STUDY: results}).splitlines()
    assert row.count(" | ") == 8 and "nan" not in row and "None" not in row


def test_the_summary_is_a_table_a_picture_and_ten_sentences() -> None:
    lines = (pages.REPORTS / "README.md.in").read_text(encoding="utf-8").splitlines()
    sentences = [line for line in lines if line.startswith("- ")]
    assert len(sentences) == 10 and all(line.count(". ") == 0 and line.endswith(".") for line in sentences)
    assert lines.count("{table}") == 1 and sum(line.startswith("![") for line in lines) == 1
    assert all(pages.REFERENCE.search(line) for line in sentences)


def test_every_number_is_a_link_to_its_report(results: dict[str, Any]) -> None:
    line = pages.fill_line(
        "- {shown:GNVR:difference}, {shown:GNVR:p}, {shown:AdamW:mean}, {shown::seeds}", {STUDY: results}
    )
    assert line is not None and line.count("](reference/shown/README.md)") == 4
    assert not re.search(r"\d", re.sub(r"\[[^()]*\]\([^)]*\)", "", line))
    assert "+6.18" in line and "52.00% ± 1.58%" in line


def test_a_changed_number_changes_the_text(results: dict[str, Any]) -> None:
    template = "- {shown:GNVR:difference}, {shown:GNVR:verdict}, {shown:GNVR:cost}, {shown:AdamW:mean}.\n\n{table}"
    page = pages.fill(template, {STUDY: results})
    assert "[1.70](" in page
    text = json.dumps(results)
    rival, baseline = results["rivals"][0], results["configurations"][0]["reruns"]
    comparison = rival["verdict"]["comparison"]
    numbers = [comparison["mean"], *comparison["interval"].values(), baseline["metric_summary"]["mean"]]
    for number in [*numbers, 1.7]:
        changed = json.loads(text, parse_float=lambda digits, old=number: float(digits) + 0.1 * (float(digits) == old))
        assert pages.fill(template, {STUDY: changed}) != page, number
    changed = json.loads(
        text.replace('"label": "better"', '"label": "worse"').replace('"word": "better"', '"word": "worse"')
    )
    assert pages.fill(template, {STUDY: changed}) != page


def test_a_time_that_was_not_measured_is_refused(results: dict[str, Any]) -> None:
    with pytest.raises(pages.WrongTemplateError, match="of GNVR was not measured"):
        pages.fill("It takes {shown:GNVR:cost}.", {STUDY: results | {"step_times": None}})


def test_a_verdict_is_refused_unless_it_is_that_of_the_report(results: dict[str, Any]) -> None:
    assert pages.fill("GNVR is {shown:GNVR:better}.", {STUDY: results}).startswith("GNVR is [better](")
    assert results["rivals"][0]["verdict"]["label"] == "better"
    for word in ("worse", "no detectable difference", "equivalent"):
        with pytest.raises(pages.WrongTemplateError, match="the verdict on GNVR is 'better'"):
            pages.fill(f"GNVR is {{shown:GNVR:{word}}}.", {STUDY: results})


@pytest.mark.parametrize(
    "line",
    [
        "GNVR is better.", "GNVR gains 3 points: {shown:GNVR:difference}.", "There is no detectable difference.",
        "{shown:GNVR:size}", "{shown:SAM:difference}", "{shown:GNVR against SAM:verdict}", "{shown::size}",
    ],
)  # fmt: skip
def test_a_template_that_types_results_or_names_none_is_refused(line: str, results: dict[str, Any]) -> None:
    with pytest.raises(pages.WrongTemplateError):
        pages.fill(line, {STUDY: results})


def test_sentences_about_studies_without_a_report_are_left_out_and_said_to_be(results: dict[str, Any]) -> None:
    page = pages.fill("- One {shown::seeds}.\n- Two {absent::seeds}.\n| {absent:A:mean} | 3 |\n", {STUDY: results})
    assert "One" in page and "Two" not in page and "| – | 3 |" in page and page.rstrip().endswith("absent.")


def test_a_finished_report_is_kept_and_dropped(report: Path, reports: Path, results: dict[str, Any]) -> None:
    (reports / "reference" / "old.txt").write_text("shown\nother\n")
    place = renew.keep(report, reports)
    pages.write(reports)
    assert json.loads((place / "results.json").read_text(encoding="utf-8")) == results
    assert gzip.decompress((place / "trials.csv.gz").read_bytes()) == (report / "trials.csv").read_bytes()
    assert (place / "reruns.csv").read_bytes() == (report / "reruns.csv").read_bytes()
    assert not {"report.html", "trials.csv", "curves.csv", "trial_curves.csv"} & {path.name for path in place.iterdir()}
    pictures = sorted(path.name for path in (report / "figures").glob("*.png"))
    assert pictures and sorted(path.name for path in (place / "figures").iterdir()) == pictures
    sizes = [sum(path.stat().st_size for path in (folder / "figures").iterdir()) for folder in (place, report)]
    assert sizes[0] < sizes[1] / 2
    links = re.findall(r"\]\(([^)#]+)\)", (place / "README.md").read_text(encoding="utf-8"))
    assert "trials.csv.gz" in links and all((place / link).exists() for link in links if "://" not in link)
    assert (reports / "reference" / "old.txt").read_text() == "other\n"
    assert "[+6.18 [" in (reports / "README.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match="kept already"):
        renew.keep(place, reports)
    assert json.loads((place / "results.json").read_text(encoding="utf-8")) == results
    renew.drop("shown", reports)
    renew.keep(report, reports)
    renew.drop("shown", reports)
    pages.write(reports)
    assert not place.exists() and "6.18" not in (reports / "README.md").read_text(encoding="utf-8")


def test_an_unfinished_report_is_not_kept(tmp_path: Path, reports: Path) -> None:
    readme = write_report(synthetic_record(finished_reruns=2), tmp_path / "part", "part", [])
    with pytest.raises(SystemExit, match="not finished"):
        renew.keep(readme.parent, reports)
    with pytest.raises(SystemExit, match="no report part"):
        renew.drop("part", reports)


def test_all_that_is_committed_is_small() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is not a Git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert sum(len(zlib.compress(path.read_bytes(), 6)) for path in files if path.is_file()) < MAX_BYTES
