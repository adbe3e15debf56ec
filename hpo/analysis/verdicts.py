"""Verdicts: five rules, in a fixed order, that turn paired comparisons into one word for each rival."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from hpo.analysis.paired_tests import Comparison, Direction, compare, holm
from hpo.errors import plural

Word = Literal["no verdict", "identical", "better", "worse", "equivalent", "no detectable difference"]
Outcome = Literal["held", "did not hold", "undecided"]

MIN_PAIRS = 3
MIN_FIRM_PAIRS = 5  # below this many, rule 3 says "tentatively"


class Verdict(NamedTuple):
    """A verdict and the numbers it rests on.

    Attributes:
        word: what the rule says. rule: 1–5, the rule that decided.
        reason: why there is no verdict (rule 1 only, else empty).
        tentative: what the rule says may not outlast more data; see `_is_tentative`.
        within_margin: rule 3, but the equivalence interval lies within ±margin.
        comparison: the paired numbers. p_holm: p of the t test, Holm-adjusted over the family.
        diverged: reruns of the two configurations that diverged (counted, never dropped).
    """

    word: Word
    rule: int
    reason: str
    tentative: bool
    within_margin: bool
    comparison: Comparison
    p_holm: float
    alpha: float
    margin: float
    diverged: int

    @property
    def label(self) -> str:
        """The verdict in words, as every report, table, terminal and file says it: "tentatively better"."""
        return f"tentatively {self.word}" if self.tentative else self.word

    @property
    def firm(self) -> bool:
        """Whether the verdict is "better" or "worse" without "tentatively": all that may be set in bold."""
        return self.rule == 3 and not self.tentative


def family_verdicts(
    pairs: Mapping[str, tuple[Mapping[int, float], Mapping[int, float]]],
    margin: float,
    direction: Direction = "maximize",
    alpha: float = 0.05,
    diverged: Mapping[str, int] | None = None,
    tuning_runs: int = 1,
) -> dict[str, Verdict]:
    """Judges every rival against the baseline, as one family.

    Args:
        pairs: name → (the rival's values, the baseline's values), both by seed, or `by_tuning_run` of several
            tuning runs. A rerun that diverged is in it with the value of an untrained network (bounded metrics) or with
            NaN (unbounded: no verdict).
        margin: the smallest difference that matters, in the metric's units.
        diverged: name → reruns diverged in the rival or the baseline; by default the NaNs are counted.
        tuning_runs: how many tuning runs chose the settings; after a single one every verdict is tentative.
    """
    unit = "seed" if tuning_runs == 1 else "tuning run"
    comparisons = {
        name: compare(*_finite_where_both(*pair), direction, alpha, len(pairs)) for name, pair in pairs.items()
    }
    unbounded = {name: _diverged_pairs(*pair) for name, pair in pairs.items()}
    testable = [
        comparison.p_t if not unbounded[name] and comparison.n >= MIN_PAIRS else float("nan")
        for name, comparison in comparisons.items()
    ]
    verdicts = {}
    for (name, comparison), p_holm in zip(comparisons.items(), holm(testable), strict=True):
        counted = unbounded[name] if diverged is None else diverged.get(name, 0)
        lost = unbounded[name] and max(unbounded[name], counted)  # several reruns may be lost with one tuning run
        reason = _why_no_verdict(comparison, *pairs[name], lost, unit)
        verdicts[name] = apply_rules(comparison, float(p_holm), margin, direction, alpha, reason, counted, tuning_runs)
    return verdicts


def apply_rules(
    comparison: Comparison,
    p_holm: float,
    margin: float,
    direction: Direction = "maximize",
    alpha: float = 0.05,
    reason: str = "",
    diverged: int = 0,
    tuning_runs: int = 1,
) -> Verdict:
    """Applies the five rules to one comparison; a `reason` given beforehand means that rule 1 applies."""
    within = comparison.equivalence_interval.lies_within(margin)
    word: Word
    if reason or comparison.n < MIN_PAIRS:
        word, rule = "no verdict", 1
        reason = reason or _too_few(comparison.n)
    elif comparison.identical:
        word, rule = "identical", 2
    elif p_holm < alpha:
        word = "better" if (comparison.mean > 0) == (direction == "maximize") else "worse"
        rule = 3
    elif within:
        word, rule = "equivalent", 4
    else:
        word, rule = "no detectable difference", 5
    return Verdict(
        word=word,
        rule=rule,
        reason=reason,
        tentative=_is_tentative(rule, comparison.n, tuning_runs),
        within_margin=rule == 3 and within,
        comparison=comparison,
        p_holm=p_holm,
        alpha=alpha,
        margin=margin,
        diverged=diverged,
    )


def _is_tentative(rule: int, pairs: int, tuning_runs: int) -> bool:
    """Whether one tuning run or few pairs make a verdict tentative.

    One more trial can change the setting that a single tuning run chooses, and with it the word of every rule that
    speaks of the configurations (3, 4 and 5), however many seeds that one setting is rerun with. "No verdict" (rule 1)
    claims nothing that could be overturned, and "identical" (rule 2) states that the reruns differ by one and the same
    amount and asks whether the setting takes effect: neither generalizes, so neither can be tentative.
    """
    return (rule >= 3 and tuning_runs == 1) or (rule == 3 and pairs < MIN_FIRM_PAIRS)


def prediction_outcome(prediction: str, verdict: Verdict) -> Outcome:
    """Whether a prediction ("better", "worse" or "equivalent") held; a tentative verdict decides nothing."""
    if verdict.rule in (1, 2, 5) or verdict.tentative:
        return "undecided"
    if prediction == "equivalent":
        return "held" if verdict.rule == 4 or verdict.within_margin else "did not hold"
    return "held" if verdict.word == prediction else "did not hold"


def by_tuning_run(
    rival: Mapping[int, float], baseline: Mapping[int, float], tuning_run_by_seed: Mapping[int, int]
) -> tuple[dict[int, float], dict[int, float]]:
    """Both sides of a comparison by tuning run: means over the seeds of the tuning run that both sides have.

    Seeds of one tuning run share its luck of tuning and are no independent evidence about it; tuning runs are.
    """
    shared = sorted(rival.keys() & baseline.keys())
    sides = [tuning_run_means({seed: side[seed] for seed in shared}, tuning_run_by_seed) for side in (rival, baseline)]
    return sides[0], sides[1]


def tuning_run_means(values: Mapping[int, float], tuning_run_by_seed: Mapping[int, int]) -> dict[int, float]:
    """The mean of values by seed for each tuning run that has any."""
    tuning_runs: dict[int, list[float]] = {}
    for seed, value in values.items():
        tuning_runs.setdefault(tuning_run_by_seed[seed], []).append(value)
    return {tuning_run: float(np.mean(own)) for tuning_run, own in tuning_runs.items()}


def _too_few(n: int, unit: str = "seed") -> str:
    if n == 0:
        return "no seed has been rerun for both"
    return f"{plural(n, f'paired {unit}')}, {MIN_PAIRS} are needed"


def _why_no_verdict(
    comparison: Comparison, rival: Mapping[int, float], baseline: Mapping[int, float], unbounded: int, unit: str
) -> str:
    if unbounded:
        return f"{unbounded} diverged"
    if comparison.n >= MIN_PAIRS:
        return ""
    if min(len(rival), len(baseline)) >= MIN_PAIRS:
        return f"the seeds are not paired, {comparison.n} of them {'is' if comparison.n == 1 else 'are'} shared"
    return _too_few(comparison.n, unit)


def _diverged_pairs(rival: Mapping[int, float], baseline: Mapping[int, float]) -> int:
    return sum(
        int(not np.isfinite(values[seed])) for seed in rival.keys() & baseline.keys() for values in (rival, baseline)
    )


def _finite_where_both(
    rival: Mapping[int, float], baseline: Mapping[int, float]
) -> tuple[dict[int, float], dict[int, float]]:
    """The pairs that can be subtracted; the others are counted by `_diverged_pairs` and forbid a verdict."""
    seeds = [s for s in rival.keys() & baseline.keys() if np.isfinite(rival[s]) and np.isfinite(baseline[s])]
    return {seed: rival[seed] for seed in seeds}, {seed: baseline[seed] for seed in seeds}
