"""How numbers, differences and names are printed."""

import math

import pytest

from hpo.analysis.metric import ACCURACY, Metric
from hpo.analysis.paired_tests import Interval, summarise
from hpo.report import formatting, wording

LOSS = Metric("test_loss", "minimize", share=False)
NAN = Interval(math.nan, math.nan)


@pytest.mark.parametrize(
    ("value", "number", "digits"),
    [
        (1.3e-3, "1.30e-3", "1.30e-3"), (6.53e-5, "6.53e-5", "6.53e-5"), (0.026, "0.026", "0.0260"),
        (0.5, "0.5", "0.500"), (-0.578, "−0.578", "−0.578"), (0, "0", "0"), (-0.0, "0", "0"), (1234, "1234", "1234"),
        (123456, "1.23e5", "1.23e5"), (math.nan, "–", "–"), (None, "–", "–"), (-1.5e-17, "−1.50e-17", "−1.50e-17"),
    ],
)  # fmt: skip
def test_a_number(value: float, number: str, digits: str) -> None:
    assert (formatting.number(value), formatting.three_digits(value)) == (number, digits)


@pytest.mark.parametrize(("value", "shown"), [(1e-4, "1e-4"), (0.9, "0.9"), (10, "10"), (2.5e-6, "2.5e-6"), (0, "0")])
def test_a_bound(value: float, shown: str) -> None:
    assert formatting.bound(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0004, "< 0.001"), (0.0321, "= 0.032"), (0.8612, "= 0.86"), (1.0, "= 1.00"), (NAN[0], "= –"),
        (0.0496, "= 0.0496"), (0.04999, "= 0.0499"), (0.05, "= 0.05"), (0.0504, "= 0.05"), (0.0494, "= 0.049"),
    ],
)  # fmt: skip
def test_a_probability(value: float, shown: str) -> None:
    assert formatting.probability(value) == shown
    assert formatting.p_cell(value) == shown.replace("= ", "").replace("< ", "<")


@pytest.mark.parametrize(
    ("value", "share", "number"),
    [
        (0.0019, "+0.19", "+1.90e-3"), (-0.5, "−50.00", "−0.500"), (0.0, "0.00", "0"), (math.nan, "–", "–"),
        (1e-9, "0.00", "+1.00e-9"), (-0.00006, "−0.01", "−6.00e-5"),
    ],
)  # fmt: skip
def test_a_difference_has_a_sign_unless_it_is_zero(value: float, share: str, number: str) -> None:
    assert (formatting.difference(value, ACCURACY), formatting.difference(value, LOSS)) == (share, number)
    assert formatting.amount(value, ACCURACY) == f"{share} points" and formatting.amount(value, LOSS) == number
    assert formatting.difference(value, ACCURACY, signed=False) == share.lstrip("+")


def test_values_intervals_and_margins_have_the_unit_of_their_metric() -> None:
    assert (formatting.metric_value(0.478, ACCURACY), formatting.metric_value(1.5, LOSS)) == ("47.80%", "1.50")
    assert formatting.interval(Interval(0.462, 0.494), ACCURACY) == "[46.20%, 49.40%]"
    assert formatting.interval(Interval(0.3848, 1.0902), ACCURACY) == "[38.48%, 100.00%]"
    assert formatting.interval(Interval(-0.1, 0.2), ACCURACY) == "[0.00%, 20.00%]"
    assert formatting.interval(Interval(-0.1, 1.2), LOSS) == "[−0.100, 1.20]"
    assert formatting.difference_interval(Interval(-0.2, 0.1), LOSS) == "[−0.200, 0.100]"
    assert formatting.with_interval(0.1, Interval(-0.2, 0.4), ACCURACY) == "+10.00 [−20.00, 40.00]"
    assert formatting.interval(NAN, LOSS) == formatting.difference_interval(NAN, LOSS) == "–"
    assert formatting.with_interval(0.1, NAN, LOSS) == "+0.100"
    margins = [(0.01, ACCURACY), (0.005, ACCURACY), (0.01, LOSS)]
    assert [formatting.margin(*margin) for margin in margins] == ["1 point", "0.5 points", "0.01"]


def test_a_spread_has_the_digits_of_its_mean() -> None:
    values = {LOSS: [[1.5, 1.5], [0.509, 0.509], [0.001, 0.003], [0.5], []], ACCURACY: [[0.46, 0.5], [0.5], []]}
    assert [formatting.spread(summarise(row), metric) for metric, rows in values.items() for row in rows] == [
        "1.50 ± 0.00", "0.509 ± 0.000", "2.00e-3 ± 1.41e-3", "0.5", "–", "48.00% ± 2.83%", "50.00%", "–",
    ]  # fmt: skip


def test_a_small_spread_is_not_shown_as_none() -> None:
    rows = [[2.101, 2.104, 2.098], [312.0, 312.4, 311.7], [0.1 + 0.2, 0.3], [0.0123451, 0.0123449]]
    shown = ["2.101 ± 0.003", "312.0 ± 0.4", "0.300 ± 0.000", "0.0123450 ± 0.0000001"]
    assert [formatting.spread(summarise(row), LOSS) for row in rows] == shown


def test_no_number_is_rounded_into_an_exponent() -> None:
    assert [formatting.number(value) for value in (999.4, 999.7, -999.7)] == ["999", "1000", "−1000"]
    assert [formatting.three_digits(value) for value in (999.4, 999.7)] == ["999", "1000"]
    assert [formatting.duration(seconds) for seconds in (99.4, 99.7, 5960, 5985)] == [
        "99 s",
        "1.7 min",
        "99 min",
        "1.7 h",
    ]


def test_names_with_commas_stay_apart_in_a_list() -> None:
    assert wording.listed(["A"]) == "A" and wording.listed(["A", "B", "C"]) == "A, B and C"
    assert wording.listed(["A", "A, two views", "B"]) == "A; A, two views; and B"


def test_shares_differ_by_at_most_100_points() -> None:
    values = [formatting.detectable(value, ACCURACY) for value in (0.0123, 1.0, 1.7)]
    assert values == ["1.23 points", "100.00 points", "over 100 points"]
    assert formatting.detectable(1.7, LOSS) == "1.70"


def test_a_legend_names_only_what_is_short() -> None:
    assert wording.legend(["momentum", "clip", "k"]) == ""
    assert wording.legend(["rho", "rho_prime", "lambda_"]) == "ρ: rho; ρ′: rho prime; λ: lambda"


def test_whole_numbers_are_a_range_where_they_are_consecutive() -> None:
    assert [wording.span(values) for values in ([1, 2, 3], [1, 2], [1, 3, 4], [7])] == [
        "1 to 3",
        "1, 2",
        "1, 3, 4",
        "7",
    ]


def test_a_part_of_a_definition_in_words() -> None:
    assert wording.describe({"kind": "MLP", "widths": [40, 10], "dropout": None}) == "MLP 40 → 10"
    data = {"kind": "Cifar", "label_noise": 0.2, "crop": [32, 32], "flip": True, "samples": 4000, "rate": 1e-3}
    assert wording.describe(data) == "Cifar, label noise 20%, crop 32 × 32, flip yes, samples 4,000, rate 1e-3"
    table = {"kind": "Table", "test": 0.25, "target": "diagnosis", "content": "75a1"}
    assert wording.describe(table) == "Table, test 25%, target column diagnosis, digest of the content 75a1"
    assert wording.describe({"kind": "Steps", "milestones": [10, 20]}) == "Steps, milestones 10 and 20"
    ranges = {"kind": "Cifar10", "scale": [0.08, 1.0], "corruptions": ["fog", "snow"], "severities": [1, 5]}
    assert wording.describe(ranges) == "Cifar10, scale 0.08 to 1, corruptions fog and snow, severities 1 and 5"
    assert (wording.describe(None), wording.describe("adam")) == ("–", "adam")
