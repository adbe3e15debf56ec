"""Verdicts: five rules, in a fixed order, that turn paired comparisons into one word for each rival."""

from collections.abc import Hashable, Mapping
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from hpo.analysis.paired_tests import ALPHA, Comparison, Direction, compare, holm
from hpo.errors import plural

Word = Literal["no verdict", "identical", "better", "worse", "equivalent", "no detectable difference"]
Outcome = Literal["held", "did not hold", "undecided"]
Values = Mapping[int, float]
Name = TypeVar("Name", bound=Hashable)

MIN_PAIRS = 3
MIN_FIRM_PAIRS = 5  # with fewer pairs, rule 3 says "tentatively"


class Verdict(NamedTuple):
    """A verdict and the numbers it rests on.

    Attributes:
        word: the verdict. rule: the rule that decided, 1–5.
        reason: why there is no verdict (rule 1 only, else empty).
        tentative: whether more data could overturn it; see `_is_tentative`.
        within_margin: rule 3 decided, but the equivalence interval lies within ±margin.
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
        """The verdict as every report, table, terminal and file shows it: "tentatively better"."""
        return f"tentatively {self.word}" if self.tentative else self.word

    @property
    def found(self) -> bool:
        """Whether it is "better", "worse" or "equivalent", tentatively or not."""
        return self.rule in (3, 4)

    @property
    def firm(self) -> bool:
        """Whether the verdict is "better" or "worse" without "tentatively": only these may be set in bold."""
        return self.rule == 3 and not self.tentative


def family_verdicts(
    pairs: Mapping[Name, tuple[Values, Values]],
    margin: float,
    direction: Direction = "maximize",
    alpha: float = ALPHA,
    diverged: Mapping[Name, int] | None = None,
    tuning_runs: int = 1,
) -> dict[Name, Verdict]:
    """The verdicts of all planned comparisons, of rivals against a baseline, as one family of tests.

    Args:
        pairs: name → (the rival's values, its baseline's values), both by seed, or with several tuning runs by tuning
            run (`by_tuning_run`). A rerun that diverged has the value of an untrained network (bounded metrics) or NaN
            (unbounded metrics: no verdict).
        margin: the smallest difference that matters, in the metric's units.
        diverged: name → reruns that diverged in the rival or the baseline; by default the NaNs are counted.
        tuning_runs: how many tuning runs chose the settings; after a single one every verdict is tentative.
    """
    if diverged is None:
        diverged = {name: _count_not_finite(*pair) for name, pair in pairs.items()}
    unit = "seed" if tuning_runs == 1 else "tuning run"
    comparisons = {name: compare(*_finite_pairs(*pair), direction, alpha, len(pairs)) for name, pair in pairs.items()}
    reasons = {name: _reason(*pair, diverged.get(name, 0), unit) for name, pair in pairs.items()}
    p_values = holm([float("nan") if reasons[name] else comparisons[name].p_t for name in pairs])
    verdicts = {}
    for (name, comparison), p_holm in zip(comparisons.items(), p_values.tolist(), strict=True):
        within = comparison.equivalence_interval.lies_within(margin)
        word, rule = _apply_rules(comparison, p_holm, alpha, direction, within, bool(reasons[name]))
        verdicts[name] = Verdict(
            word=word,
            rule=rule,
            reason=reasons[name],
            tentative=_is_tentative(rule, comparison.n, tuning_runs),
            within_margin=rule == 3 and within,
            comparison=comparison,
            p_holm=p_holm,
            alpha=alpha,
            margin=margin,
            diverged=diverged.get(name, 0),
        )
    return verdicts


def _apply_rules(
    comparison: Comparison, p_holm: float, alpha: float, direction: Direction, within_margin: bool, undecidable: bool
) -> tuple[Word, int]:
    """The verdict and the number of the first rule that applies."""
    if undecidable:
        return "no verdict", 1
    if comparison.identical:
        return "identical", 2
    if p_holm < alpha:
        return "better" if (comparison.mean > 0) == (direction == "maximize") else "worse", 3
    return ("equivalent", 4) if within_margin else ("no detectable difference", 5)


def _is_tentative(rule: int, pairs: int, tuning_runs: int) -> bool:
    """Whether a single tuning run or few pairs make a verdict tentative.

    One more trial can change the setting that a single tuning run chooses, and with it the verdict of every rule about
    the configurations (3, 4 and 5), however many seeds that one setting is rerun with. "No verdict" (rule 1) claims
    nothing that could be overturned, and "identical" (rule 2) states that the reruns differ by one and the same amount
    and asks whether the setting takes effect: neither generalises, so neither can be tentative.
    """
    return (rule >= 3 and tuning_runs == 1) or (rule == 3 and pairs < MIN_FIRM_PAIRS)


def prediction_outcome(prediction: str, verdict: Verdict) -> Outcome:
    """Whether a prediction ("better", "worse" or "equivalent") held; a tentative verdict decides nothing.

    A firm "better" or "worse" contradicts "equivalent" only where the equivalence interval excludes every difference
    below the margin.
    """
    if verdict.rule in (1, 2, 5) or verdict.tentative:
        return "undecided"
    if prediction == "equivalent":
        if verdict.rule == 4 or verdict.within_margin:
            return "held"
        excluded = verdict.comparison.equivalence_interval.lies_outside(verdict.margin)
        return "did not hold" if excluded else "undecided"
    return "held" if verdict.word == prediction else "did not hold"


def by_tuning_run(
    rival: Values, baseline: Values, tuning_run_by_seed: Mapping[int, int]
) -> tuple[dict[int, float], dict[int, float]]:
    """Both sides of a comparison by tuning run: means over the seeds of the tuning run that both sides have.

    The reruns of one tuning run share its setting, so they are not independent evidence about tuning; tuning runs are.
    """
    shared = sorted(rival.keys() & baseline.keys())
    sides = [tuning_run_means({seed: side[seed] for seed in shared}, tuning_run_by_seed) for side in (rival, baseline)]
    return sides[0], sides[1]


def tuning_run_means(values: Values, tuning_run_by_seed: Mapping[int, int]) -> dict[int, float]:
    """The mean of values by seed for each tuning run that has any."""
    groups: dict[int, list[float]] = {}
    for seed, value in values.items():
        groups.setdefault(tuning_run_by_seed[seed], []).append(value)
    return {tuning_run: float(np.mean(group)) for tuning_run, group in groups.items()}


def _reason(rival: Values, baseline: Values, diverged: int, unit: str) -> str:
    """Why the pairs allow no verdict; empty where they allow one."""
    not_finite = _count_not_finite(rival, baseline)
    if not_finite:
        return f"{max(not_finite, diverged)} diverged"  # several reruns may be lost with one tuning run
    shared = len(rival.keys() & baseline.keys())
    if shared >= MIN_PAIRS:
        return ""
    if min(len(rival), len(baseline)) >= MIN_PAIRS:
        return f"the seeds are not paired, {shared} of them {'is' if shared == 1 else 'are'} shared"
    if not shared:
        return "no seed has been rerun for both"
    return f"{plural(shared, f'paired {unit}')}, {MIN_PAIRS} are needed"


def _count_not_finite(rival: Values, baseline: Values) -> int:
    shared = rival.keys() & baseline.keys()
    return sum(not np.isfinite(side[seed]) for seed in shared for side in (rival, baseline))


def _finite_pairs(rival: Values, baseline: Values) -> tuple[dict[int, float], dict[int, float]]:
    """The pairs that can be subtracted; the others forbid a verdict (`_count_not_finite`)."""
    seeds = [s for s in rival.keys() & baseline.keys() if np.isfinite(rival[s]) and np.isfinite(baseline[s])]
    return {seed: rival[seed] for seed in seeds}, {seed: baseline[seed] for seed in seeds}
