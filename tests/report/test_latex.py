"""results.tex: a booktabs table that LaTeX can read, with nothing in bold that the verdict does not allow."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from synthetic_record import diverge, synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.report import make_record
from hpo.report.latex import CHARACTERS, escape, latex
from tests.report.moments import MOMENTS, NOISE, numbers_of, planted

COMMANDS = {
    *("begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule", "textbf", "pm", "Delta"),
    *("textbackslash", "textasciitilde", "textasciicircum", "times", "dots", "lambda"),
}


def check(source: str) -> list[list[str]]:
    """Parses a table as TeX would: braces, math, environments, cells a row, known commands. Returns its cells."""
    code = re.sub(r"(?<!\\)%.*", "", source)
    assert code.isascii(), "plain pdfLaTeX reads it"
    bare = re.sub(r"\\\\|\\[{}$&%#_]", "", code)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0 and bare.count("$") % 2 == 0
    assert set(re.findall(r"\\([A-Za-z]+)", bare)) <= COMMANDS
    outside = re.sub(r"\$[^$]*\$", "", bare)
    assert not re.search(r"[#_^~<>|\"]", re.sub(r"\\label\{[^}]*\}", "", outside))
    assert re.findall(r"\\(begin|end)\{(\w+)\}", code) == [
        ("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table"),
    ]  # fmt: skip
    columns = re.search(r"\\begin\{tabular\}\{([lrc]+)\}", code)
    assert columns
    order = [code.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}")]
    assert order == sorted(order)
    inside = code[columns.end() : order[-1]]
    rows = re.sub(r"\\(top|mid|bottom)rule", "", inside).split("\\\\\n")
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)&", row)] for row in rows if row.strip()]
    assert {len(row) for row in cells} == {len(columns[1])}
    return cells


def table(difference: np.ndarray, tuning_runs: int | None = None) -> str:
    """By default each seed has its own tuning run."""
    return latex(compute_numbers(planted(difference, tuning_runs=tuning_runs or len(difference))))


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_table_is_complete_at_every_moment(moment: str) -> None:
    cells = check(latex(numbers_of(moment)))
    assert len(cells) == 1 + len(numbers_of(moment).configurations)
    assert not [cell for row in cells for cell in row if re.search(r"\b(nan|None|inf)\b", cell)]


def test_the_table_holds_the_numbers_and_the_definition() -> None:
    source = table(0.05 + 0.01 * NOISE, tuning_runs=1)
    header, baseline, rival = check(source)
    assert header == ["configuration", "n", "test accuracy", r"$\Delta$ in points [95\% CI]", "p (Holm)", "verdict"]
    assert baseline == ["AdamW", "10", r"54.50\% $\pm$ 3.03\%", "--", "--", "baseline"]
    assert rival[3:] == ["+5.00 [4.46, 5.54]", "$<$0.001", "tentatively better"]
    digest = planted(NOISE, tuning_runs=1).study["digest"]
    assert f"% Needs \\usepackage{{booktabs}}.\n% Study synthetic, definition sha256 {digest}\n" in source
    assert r"\label{tab:synthetic}" in source
    assert "one tuning run" in source and "one tuning run" not in table(0.05 + 0.01 * NOISE)


def test_names_show_literally() -> None:
    assert escape(r"a_b 50% $x$ \d {#1} ~^ <&>|") == (
        r"a\_b 50\% \$x\$ \textbackslash{}d \{\#1\} \textasciitilde{}\textasciicircum{} $<$\&$>$$|$"
    )
    assert escape("λ ± ρ′ −1") == r"$\lambda$ $\pm$ $\rho$$'$ $-$1"
    assert not [shown for shown in CHARACTERS.values() if not shown.isascii()]


def test_no_name_is_an_argument_of_the_line_before_it() -> None:
    names = ["*Adam", "[SAM]", "ROGC*"]
    source = latex(compute_numbers(make_record(*synthetic_export(names))))
    assert [line.split(" & ")[0].strip() for line in source.splitlines() if " & " in line][1:] == [
        "{}*Adam",
        "{}[SAM]",
        "ROGC*",
    ]


def test_another_metric_keeps_its_unit() -> None:
    export, curves = synthetic_export(direction="minimize", seeds=6)
    for row in export["slots"]:
        if row["phase"] == "rerun":
            row["result"]["test_loss"] = (
                1.5 + 0.02 * row["slot"] - (0.2 + 0.001 * row["slot"]) * (row["configuration"] == "GNVR")
            )
    header, baseline, rival = check(latex(compute_numbers(make_record(export, curves))))
    assert header[2:4] == ["test loss", r"$\Delta$ [95\% CI]"]
    assert baseline[2] == r"1.55 $\pm$ 0.04" and rival[3].startswith("$-$0.20")
    diverge(export["slots"][-1], curves)
    assert check(latex(compute_numbers(make_record(export, curves))))[2][5] == "no verdict: 1 diverged"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="there is no pdflatex here")
def test_latex_compiles_it(tmp_path: Path) -> None:
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{results}\\end{document}\n"
    (tmp_path / "paper.tex").write_text(document)
    (tmp_path / "results.tex").write_text(latex(numbers_of("odd names")))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
