"""One tuning run: its verdicts are tentative in every place that shows a verdict, with the same words."""

import json
from pathlib import Path

import pytest

from hpo.analysis.study_comparison import WORDS
from hpo.cli.commands.report import print_verdicts
from hpo.report.summary import summarise
from tests.report.test_report import NOISE, PLANTED, planted, render


@pytest.mark.parametrize("words", [words for _, words, _, _ in PLANTED])
def test_one_tuning_run_is_tentative_wherever_its_verdict_stands(words: str, tmp_path: Path) -> None:
    """The top, T2 and the conclusion of the report, its page, LaTeX and JSON, the terminal and the dashboard's note."""
    difference = next(gain for gain, told, _, _ in PLANTED if told == words)
    record = planted(difference)
    text = render(record, tmp_path).replace("Planted differences are **found**.", "")
    plain = words.strip("*").removeprefix("tentatively ").replace("tuning run", "seed")
    told = plain if plain.startswith(("identical", "no verdict")) else f"tentatively {plain}"
    assert f"> - GNVR against AdamW: {told}" in text and f"| {told} |" in text
    assert f"- GNVR against AdamW: {told}." in text[text.index("## Conclusion") :]
    assert text[text.index("## Conclusion") :].count("is undecided.") == 1
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["verdicts"][0].startswith(f"GNVR against AdamW: {told}")
    verdict = results["rivals"][0]["verdict"]
    assert verdict["tentative"] == told.startswith("tentatively") and results["rivals"][0]["outcome"] == "undecided"
    assert verdict["label"] == next(word for word in WORDS if told.startswith(word))
    assert told.replace("±", r"$\pm$") in (tmp_path / "results.tex").read_text()
    assert f"GNVR against AdamW: {told}" in (tmp_path / "report.html").read_text(encoding="utf-8")
    note = summarise(record).note
    assert f"- GNVR against AdamW: {told}" in note and f"| {told} |" in note
    assert "**" not in text and "textbf" not in (tmp_path / "results.tex").read_text() and "**" not in note


def test_the_terminal_says_what_the_report_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tuning_runs, told in ((1, "tentatively better"), (10, "better")):
        render(planted(0.05 + 0.01 * NOISE, tuning_runs=tuning_runs, trials=30), tmp_path)
        print_verdicts(tmp_path / "README.md")
        [line] = capsys.readouterr().out.splitlines()
        assert line.startswith(f"GNVR against AdamW: {told}; Δ = +5.00 points")
