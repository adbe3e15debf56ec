"""Calibration: how often verdicts are wrong where nothing differs, and how often they find an effect that is there.

Comparisons are judged by the code that reports use. A study's pairs are rival → (the rival's, the baseline's values),
both by unit (seed, or tuning run); all studies of a list have the same rivals and units, and no true difference.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaincinv

from hpo.analysis.paired_tests import minimal_detectable_effect, standard_deviation
from hpo.analysis.verdicts import Verdict, family_verdicts

Pairs = Mapping[str, tuple[Mapping[int, float], Mapping[int, float]]]

ALPHA = 0.05
MARGIN = 0.01
WANTED_POWER = (0.75, 0.85)  # "about 80%"


class Rate(NamedTuple):
    """`found` of `of` cases, and the exact binomial (Clopper–Pearson) 95% interval of their true share."""

    found: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.found / self.of

    def described(self) -> dict[str, float]:
        """As JSON values."""
        return {**self._asdict(), "share": self.share}


def rate(found: int, of: int, confidence: float = 0.95) -> Rate:
    """A rate with its interval; the interval ends at 0 and at 1 where nothing and where everything was found."""
    tail = (1 - confidence) / 2
    low = float(betaincinv(found, of - found + 1, tail)) if found else 0.0
    high = float(betaincinv(found + 1, of - found, 1 - tail)) if found < of else 1.0
    return Rate(found, of, low, high)


class Calibration(NamedTuple):
    """What verdicts made of studies without any difference, and of the same studies with one planted.

    Attributes:
        wrong: studies with any "better" or "worse". covers: studies whose first interval holds the true difference, 0.
        effect: planted in the first rival: the MDE at the SD of that rival's differences over all studies.
        found: studies in which the first rival is then "better".
        found_stated: the same, with the MDE that each study itself states planted in it.
        wrong_beside: studies with the effect in which another rival is "better" or "worse"; None without another.
        confidence: of the intervals that `passes` looks at, higher than 95% where many rows are looked at together.
    """

    wrong: Rate
    covers: Rate
    effect: float
    found: Rate
    found_stated: Rate
    wrong_beside: Rate | None
    confidence: float = 0.95

    @property
    def passes(self) -> bool:
        """Whether wrong verdicts are compatible with at most 5%, and those found with about 80%."""
        low, high = WANTED_POWER
        wrong = [self.wrong] + ([self.wrong_beside] if self.wrong_beside else [])
        known = [rate(entry.found, entry.of, self.confidence) for entry in wrong]
        return all(entry.low <= ALPHA for entry in known) and self.found.high >= low and self.found.low <= high

    def described(self) -> dict[str, Any]:
        """As JSON values."""
        rates = {name: entry.described() for name, entry in self._asdict().items() if isinstance(entry, Rate)}
        return {"wrong_beside": None, "effect": self.effect, **rates, "passes": self.passes}


def calibrate(studies: Sequence[Pairs]) -> Calibration:
    """Judges every study as it is, and with an effect planted in its first rival."""
    first = next(iter(studies[0]))
    plain = [_judged(pairs) for pairs in studies]
    differences = [rival[unit] - baseline[unit] for rival, baseline in (s[first] for s in studies) for unit in rival]
    units = plain[0][first].comparison.n
    effect = minimal_detectable_effect(standard_deviation(differences), units, ALPHA / len(plain[0]))
    planted = [_judged(_shifted(pairs, first, effect)) for pairs in studies]
    stated = [
        _judged(_shifted(pairs, first, own[first].comparison.mde)) for pairs, own in zip(studies, plain, strict=True)
    ]
    beside = [{name: own for name, own in study.items() if name != first} for study in planted]
    return Calibration(
        wrong=_rate([_decided(study) for study in plain]),
        covers=_rate([study[first].comparison.interval.low <= 0 <= study[first].comparison.interval.high
                      for study in plain]),
        effect=effect,
        found=_rate([study[first].word == "better" for study in planted]),
        found_stated=_rate([study[first].word == "better" for study in stated]),
        wrong_beside=_rate([_decided(study) for study in beside]) if beside[0] else None,
    )  # fmt: skip


def _judged(pairs: Pairs) -> dict[str, Verdict]:
    return family_verdicts(pairs, MARGIN, "maximize", ALPHA)


def _shifted(pairs: Pairs, name: str, effect: float) -> Pairs:
    rival, baseline = pairs[name]
    return {**pairs, name: ({unit: value + effect for unit, value in rival.items()}, baseline)}


def _decided(study: Mapping[str, Verdict]) -> bool:
    return any(verdict.word in ("better", "worse") for verdict in study.values())


def _rate(cases: Sequence[bool]) -> Rate:
    return rate(int(np.count_nonzero(cases)), len(cases))
