"""LaTeX: the tables T1 and T2 in one booktabs table for a paper, results.tex."""

import re

from hpo.analysis.metric import Metric
from hpo.analysis.results import ConfigurationNumbers, Rival, StudyNumbers
from hpo.errors import plural
from hpo.report.formatting import p_cell, spread, with_interval
from hpo.report.wording import better, verdict_words

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''", "`": "{`}",
}  # fmt: skip
SIGNS = {
    "−": "$-$", "–": "--", "—": "---", "±": r"$\pm$", "×": r"$\times$", "Δ": r"$\Delta$", "′": "$'$", "…": r"\dots{}",
}  # fmt: skip
GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau",
    "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega",
}  # fmt: skip
CHARACTERS = SPECIAL | SIGNS | {letter: rf"$\{name}$" for letter, name in GREEK.items()}
BOLD = re.compile(r"\*\*(.*?)\*\*")
MARKDOWN_ESCAPE = re.compile(r"\\([\\`*\[\]<>&|~$#_])")


def escape(text: str) -> str:
    """Any text as one line of LaTeX that shows it literally; letters of other scripts need XeLaTeX or LuaLaTeX."""
    return "".join(CHARACTERS.get(character, character) for character in " ".join(str(text).split()))


def latex(numbers: StudyNumbers) -> str:
    """results.tex: a table for \\input; comments name the package it needs and the definition's digest."""
    metric, study = numbers.metric, numbers.study
    unit = " in points" if metric.share else ""
    header = ["configuration", "n", metric.label, f"Δ{unit} [95% CI]", "p (Holm)", "verdict"]
    rivals = {rival.name: rival for rival in numbers.rivals}
    rows = [_row(entry, rivals.get(entry.name), metric) for entry in numbers.configurations]
    lines = [
        r"% Needs \usepackage{booktabs}.",
        f"% Study {_comment(study['name'])}, definition sha256 {study['digest']}",
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{_caption(numbers)}}}",
        f"  \\label{{tab:{re.sub(r'[^A-Za-z0-9.+-]', '-', study['name'])}}}",
        r"  \begin{tabular}{lrrrrl}",
        r"    \toprule",
        f"    {' & '.join(map(escape, header))} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(row)} \\\\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(entry: ConfigurationNumbers, rival: Rival | None, metric: Metric) -> list[str]:
    summary = entry.reruns.metric_summary
    cells = [escape(entry.name), str(summary.n), escape(spread(summary, metric))]
    if rival is None:
        return [*cells, escape("–"), escape("–"), "baseline"]
    paired = rival.verdict.comparison
    delta = with_interval(paired.mean, paired.interval, metric) if paired.n else "–"
    return [*cells, escape(delta), escape(p_cell(rival.verdict.p_holm)), _verdict(rival, metric)]


def _verdict(rival: Rival, metric: Metric) -> str:
    """The verdict's words, in bold where Markdown has them in bold."""
    words = verdict_words(rival.verdict, metric)
    bold = BOLD.fullmatch(words)
    plain = escape(MARKDOWN_ESCAPE.sub(r"\1", bold[1] if bold else words))
    return rf"\textbf{{{plain}}}" if bold else plain


def _caption(numbers: StudyNumbers) -> str:
    """What the numbers are, and the limits of the study."""
    runs, metric = numbers.study["tuning_runs"], numbers.metric
    unit = "by seed" if runs == 1 else f"of the means of {runs} tuning runs"
    separately = ", with the interval of that comparison only" if len(numbers.rivals) > 1 else ""
    sentences = [
        f"{numbers.title}.",
        f"{metric.label.capitalize()} ({better(metric.direction)}): mean ± SD over n reruns.",
        f"Δ: paired difference from {numbers.baseline.name}, {unit}{separately}; "
        f"p: paired t test, Holm over {plural(len(numbers.rivals), 'comparison')}.",
    ]
    if runs == 1:
        sentences.append("Conditional on one tuning run, so every verdict is tentative.")
    return " ".join(map(escape, sentences))


def _comment(text: str) -> str:
    return " ".join(str(text).split())
