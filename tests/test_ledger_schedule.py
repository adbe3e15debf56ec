"""Which work comes next, on counts done by hand."""

from hpo.ledger.schedule import Choice, Group, choose


def tune(name: str = "A", **counts: int) -> Group:
    return Group(name, 0, "tune", **({"total": 40} | counts))


def test_the_ten_startup_trials_are_asked_together() -> None:
    assert choose([tune(open=40, startup_open=10)], limit=99) == Choice("A", 0, "tune", 10, startup=True)


def test_nothing_beyond_them_while_one_is_out() -> None:
    assert choose([tune(open=30, leased=1, startup_leased=1)], limit=99) is None


def test_then_at_most_a_third_of_the_trials_is_out() -> None:
    assert choose([tune(open=30)], limit=99) == Choice("A", 0, "tune", 13, startup=False)
    assert choose([tune(open=20, leased=10)], limit=99) == Choice("A", 0, "tune", 3, startup=False)
    assert choose([tune(open=17, leased=13)], limit=99) is None
    assert choose([Group("A", 0, "tune", total=2, open=1)], limit=99) == Choice("A", 0, "tune", 1, startup=False)


def test_work_begun_comes_first_then_the_largest_open_share() -> None:
    ahead, behind = tune("A", open=5), tune("B", open=20)
    assert choose([ahead, behind], limit=1).configuration == "B"  # type: ignore[union-attr]
    assert choose([tune("A", open=5, again=1), behind], limit=1).configuration == "A"  # type: ignore[union-attr]
    assert choose([tune("A", open=5), tune("B", open=5)], limit=1).configuration == "A"  # type: ignore[union-attr]


def test_idle_workers_get_a_share() -> None:
    one = tune(open=40, startup_open=10)
    assert [choose([one], 99, workers).size for workers in (1, 2, 4, 20)] == [10, 5, 3, 1]  # type: ignore[union-attr]
    half_taken = tune(open=35, leased=5, startup_open=5, startup_leased=5)
    assert choose([half_taken], 99, 2).size == 5  # type: ignore[union-attr]
    assert choose([one, tune("B", open=40, startup_open=10)], 99, 3).size == 5  # type: ignore[union-attr]
    two = [one, tune("B", open=40, startup_open=10)]
    assert [choose(two, 99, workers).size for workers in (1, 2, 4)] == [10, 5, 4]  # type: ignore[union-attr]


def test_reruns_wait_for_the_tuning_of_every_configuration() -> None:
    reruns = [Group("A", 0, "rerun", total=6, open=6), Group("A", 1, "rerun", total=4, open=3, leased=1)]
    assert choose([tune("A"), tune("B", leased=1), *reruns], limit=99) is None
    assert choose([tune("A"), tune("B"), *reruns], limit=99) == Choice("A", None, "rerun", 9, startup=False)
    assert choose([tune("A"), tune("B")], limit=99) is None
