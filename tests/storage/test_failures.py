"""One set of words for failures, wherever they are shown."""

from hpo.trials import count_by_cause, failure_text


def test_causes_that_occurred_come_in_one_order() -> None:
    counted = count_by_cause(2, {"timeout": 1, "lost worker": 3, "exception": 0, "out of memory": 4, "flood": 5})
    assert list(counted.items()) == [
        ("diverged", 2), ("out of memory", 4), ("lost worker", 3), ("timeout", 1), ("flood", 5)
    ]  # fmt: skip
    assert count_by_cause(0, {}) == {}


def test_words() -> None:
    assert failure_text({"diverged": 2, "exception": 4}) == "diverged × 2, exception × 4"
    assert failure_text({"exception": 4}, for_good=1) == "exception × 4; 1 run failed for good"
    assert failure_text({}, for_good=2) == "2 runs failed for good"
    assert failure_text({}) == ""
