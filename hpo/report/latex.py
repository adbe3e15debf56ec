"""LaTeX: the tables T1 and T2 in one booktabs table for a paper, results.tex."""

import re
from collections.abc import Iterator

from hpo.analysis.results import StudyNumbers
from hpo.errors import plural
from hpo.output import visible
from hpo.report import wording
from hpo.report.tables import comparisons, results
from hpo.report.wording import better, unescape

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''", "`": "{`}",
}  # fmt: skip
SIGNS = {
    "−": "$-$", "–": "--", "—": "---", "±": r"$\pm$", "×": r"$\times$", "Δ": r"$\Delta$", "′": "$'$", "²": "$^2$",
    "…": r"\dots{}",
}  # fmt: skip
GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau",
    "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega",
}  # fmt: skip
CHARACTERS = SPECIAL | SIGNS | {letter: rf"$\{name}$" for letter, name in GREEK.items()}
BOLD = re.compile(r"\*\*(.*?)\*\*")


def escape(text: str) -> str:
    """Any text as one line of LaTeX that shows it literally; letters of other scripts need XeLaTeX or LuaLaTeX."""
    return "".join(CHARACTERS.get(character, character) for character in visible(" ".join(str(text).split())))


def latex(numbers: StudyNumbers) -> str:
    """results.tex: a table for \\input; comments name the package it needs and the definition's digest."""
    study, metric = numbers.study, numbers.metric
    delta = f"Δ{' in points' * metric.share} [95% CI]"
    header = ["configuration", "n", metric.label, delta, "p (Holm)", "verdict"]
    lines = [
        r"% Needs \usepackage{booktabs}.",
        f"% Study {visible(' '.join(study['name'].split()))}, definition sha256 {study['digest']}",
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{_caption(numbers)}}}",
        f"  \\label{{tab:{re.sub(r'[^A-Za-z0-9.+-]', '-', study['name'])}}}",
        r"  \begin{tabular}{lrrrrl}",
        r"    \toprule",
        f"    {' & '.join(map(escape, header))} \\\\",
        r"    \midrule",
        *(f"    {_line(row)} \\\\" for row in _rows(numbers)),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _rows(numbers: StudyNumbers) -> Iterator[list[str]]:
    """Columns of T1 and T2, in Markdown."""
    compared = [(delta, p, verdict) for _, _, delta, _, _, _, p, _, _, verdict in comparisons(numbers).rows]
    with_baseline = iter(compared[: len(numbers.rivals)])
    for entry, (name, n, value, *_) in zip(numbers.configurations, results(numbers).rows, strict=True):
        is_baseline = entry.name == numbers.baseline.name
        yield [name, n, value.partition(" [")[0], *(("–", "–", "baseline") if is_baseline else next(with_baseline))]
    for rival, cells in zip(numbers.planned, compared[len(numbers.rivals) :], strict=True):
        yield [wording.escape(f"{rival.name} against {rival.against}"), "–", "–", *cells]  # n is that of reruns


def _line(row: list[str]) -> str:
    """A row; LaTeX would read a * or [ at its beginning as an argument of the line break before it."""
    line = " & ".join(map(_cell, row))
    return f"{{}}{line}" if line.startswith(("*", "[")) else line


def _cell(markdown: str) -> str:
    """A cell of Markdown in LaTeX; bold stays bold."""
    bold = BOLD.fullmatch(markdown)
    text = escape(unescape(bold[1] if bold else markdown))
    return rf"\textbf{{{text}}}" if bold else text


def _caption(numbers: StudyNumbers) -> str:
    """What the numbers are, and the limits of the study."""
    runs, metric = numbers.study["tuning_runs"], numbers.metric
    unit = "by seed" if runs == 1 else f"of the means of {runs} tuning runs"
    averaged = "" if runs == 1 else f"; the mean is over the means of the {runs} tuning runs"
    separately = ", with the interval of that comparison only" if len(numbers.comparisons) > 1 else ""
    elsewhere = ", or from the configuration named" if numbers.planned else ""
    sentences = [
        f"{numbers.title}.",
        f"{metric.title} ({better(metric.direction)}): mean ± SD over n reruns{averaged}.",
        f"Δ: paired difference from {numbers.baseline.name}{elsewhere}, {unit}{separately}; "
        f"p: paired t test, Holm over {plural(len(numbers.comparisons), 'comparison')}.",
    ]
    if runs == 1:
        sentences.append("Conditional on one tuning run, so every verdict is tentative.")
    return " ".join(map(escape, sentences))
