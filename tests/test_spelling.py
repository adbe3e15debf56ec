"""What an error adds when a word is close to one that exists."""

import pytest

from hpo.errors import did_you_mean

KNOWN = ["learning_rate", "weight_decay", "beta1", "beta2", "lambda", "AdamW"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [("lamda", "lambda"), ("learnig_rate", "learning_rate"), ("ADAMW", "AdamW"), ("adam", "AdamW")],
)
def test_the_closest_name_is_offered(word: str, meant: str) -> None:
    assert did_you_mean(word, KNOWN) == f"; did you mean {meant!r}?"


def test_two_names_equally_close_are_both_offered() -> None:
    assert did_you_mean("beta", KNOWN) == "; did you mean 'beta1' or 'beta2'?"
    assert did_you_mean("gvnr", ["none", "gvr", "gnvr"]) == "; did you mean 'gvr' or 'gnvr'?"
    assert did_you_mean("GVR", ["none", "gvr", "gnvr"]) == "; did you mean 'gvr'?"


@pytest.mark.parametrize(("word", "known"), [("rho", KNOWN), ("", KNOWN), ("lambda", [])])
def test_nothing_is_offered_where_nothing_is_close(word: str, known: list[str]) -> None:
    assert did_you_mean(word, known) == ""
