"""Calibration: how often verdicts find a difference that does not exist, and one that does.

Verdicts come from the code that reports use. A study's pairs are rival → (the rival's, the baseline's values), both by
unit (seed, or tuning run); all studies of a list have the same rivals and units, and no true difference.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from scipy.stats import binomtest

from hpo.analysis.paired_tests import ALPHA, minimal_detectable_effect, standard_deviation
from hpo.analysis.verdicts import Verdict, family_verdicts

Pairs = Mapping[str, tuple[Mapping[int, float], Mapping[int, float]]]

MARGIN = 0.01
TARGET_POWER = (0.75, 0.85)  # "about 80%"


class Rate(NamedTuple):
    """`events` in `total` cases, and the exact binomial (Clopper–Pearson) interval of their true share."""

    events: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.events / self.total

    def at_confidence(self, confidence: float) -> "Rate":
        """The same rate with another interval."""
        interval = binomtest(self.events, self.total).proportion_ci(confidence, method="exact")
        return Rate(self.events, self.total, float(interval.low), float(interval.high))


class Calibration(NamedTuple):
    """Rates of verdicts on studies without any difference, and on the same studies with a planted one.

    Attributes:
        false_positives: studies with any "better" or "worse". coverage: studies whose first interval holds the true
            difference, 0.
        effect: planted in the first rival: the MDE at the SD of that rival's differences over all studies.
        power: studies in which the first rival is then "better".
        stated_power: the same, with the MDE that each study itself states planted in it.
        other_false_positives: studies with the effect in which another rival is "better" or "worse"; None without
            another.
    """

    false_positives: Rate
    coverage: Rate
    effect: float
    power: Rate
    stated_power: Rate
    other_false_positives: Rate | None

    def passes(self, confidence: float = 0.95) -> bool:
        """Whether false positives are compatible with at most 5%, and power with about 80%."""
        low, high = TARGET_POWER
        false_positives = [rate for rate in (self.false_positives, self.other_false_positives) if rate]
        bounded = all(rate.at_confidence(confidence).low <= ALPHA for rate in false_positives)
        return bounded and self.power.high >= low and self.power.low <= high

    def as_json(self) -> dict[str, Any]:
        return {
            name: {**entry._asdict(), "share": entry.share} if isinstance(entry, Rate) else entry
            for name, entry in self._asdict().items()
        }


def calibrate(studies: Sequence[Pairs]) -> Calibration:
    """Evaluates every study as it is, and with an effect planted in its first rival."""
    first = next(iter(studies[0]))
    plain = [_verdicts(pairs) for pairs in studies]
    differences = [rival[unit] - baseline[unit] for rival, baseline in (s[first] for s in studies) for unit in rival]
    units = plain[0][first].comparison.n
    effect = minimal_detectable_effect(standard_deviation(differences), units, ALPHA / len(plain[0]))
    planted = [_verdicts(_planted(pairs, first, effect)) for pairs in studies]
    stated = [
        _verdicts(_planted(pairs, first, verdicts[first].comparison.mde))
        for pairs, verdicts in zip(studies, plain, strict=True)
    ]
    others = [{name: verdict for name, verdict in study.items() if name != first} for study in planted]
    intervals = [study[first].comparison.interval for study in plain]
    return Calibration(
        false_positives=count_rate(_any_difference(study) for study in plain),
        coverage=count_rate(interval.low <= 0 <= interval.high for interval in intervals),
        effect=effect,
        power=count_rate(study[first].word == "better" for study in planted),
        stated_power=count_rate(study[first].word == "better" for study in stated),
        other_false_positives=count_rate(_any_difference(study) for study in others) if others[0] else None,
    )


def count_rate(cases: Iterable[bool]) -> Rate:
    """The rate of true cases, with its 95% interval."""
    values = [bool(case) for case in cases]
    return Rate(sum(values), len(values), 0.0, 1.0).at_confidence(0.95)


def _verdicts(pairs: Pairs) -> dict[str, Verdict]:
    return family_verdicts(pairs, MARGIN, "maximize", ALPHA)


def _planted(pairs: Pairs, name: str, effect: float) -> Pairs:
    rival, baseline = pairs[name]
    return {**pairs, name: ({unit: value + effect for unit, value in rival.items()}, baseline)}


def _any_difference(study: Mapping[str, Verdict]) -> bool:
    return any(verdict.word in ("better", "worse") for verdict in study.values())
