"""Checks that refuse a value, and the hint that an error adds when a word is close to a known name."""

from typing import Any

import pytest

from hpo.errors import UsageError, did_you_mean, is_fraction_below_one, require_whole

KNOWN = ["learning_rate", "weight_decay", "beta1", "beta2", "lambda", "AdamW"]
REGULARIZERS = ["none", "gvr", "gnvr"]


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("lamda", KNOWN, ["lambda"]),
        ("learnig_rate", KNOWN, ["learning_rate"]),
        ("ADAMW", KNOWN, ["AdamW"]),
        ("adam", KNOWN, ["AdamW"]),
        ("beta", KNOWN, ["beta1", "beta2"]),
        ("gvnr", REGULARIZERS, ["gnvr", "gvr"]),
        ("GVR", REGULARIZERS, ["gvr"]),
        ("epoch", ["epochs", "score_epoch"], ["epochs"]),
        ("width", ["model.width", "model.depth"], ["model.width"]),
        ("a.learning_rat", ["a.learning_rate"], ["a.learning_rate"]),
        ("rho", KNOWN, []),
        ("lr", KNOWN, ["learning_rate"]),
        ("bayes", ["tpe", "random", "gp", "cmaes", "qmc"], []),
        ("", KNOWN, []),
        ("lambda", [], []),
    ],
)
def test_the_closest_names_are_offered(word: str, known: list[str], meant: list[str]) -> None:
    expected = f"; did you mean {' or '.join(map(repr, meant))}?" if meant else ""
    assert did_you_mean(word, known) == expected


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3", None])
def test_what_is_no_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^count is .*; give a whole number of at least 1$") as caught:
        require_whole("count", value)
    assert caught.value.exit_code == 2


def test_the_smallest_whole_number_allowed() -> None:
    require_whole("count", 1)
    require_whole("count", 0, minimum=0)
    with pytest.raises(UsageError, match="at least 2"):
        require_whole("count", 1, minimum=2)


def test_fractions_below_one() -> None:
    assert all(map(is_fraction_below_one, (0, 0.5)))
    assert not any(map(is_fraction_below_one, (1, -0.1, True, "0", float("nan"))))
