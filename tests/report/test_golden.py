"""Reports word by word and number by number; `golden_studies.py` says how to renew them.

Text and tables are compared as they are, numbers in JSON to nine digits, pictures by the data that they are drawn from.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.report.golden_studies import FILES, GOLDEN, STUDIES, comparison_text, moments_text, write


@pytest.fixture(scope="module", params=STUDIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of the golden report and that of the report as it is now."""
    folder = tmp_path_factory.mktemp(request.param)
    write(request.param, folder)
    return GOLDEN / request.param, folder


def different(golden: Any, now: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, as "path: golden → now"; numbers may differ in the tenth digit."""
    if isinstance(golden, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*golden, *now])
        parts = [different(golden.get(key, "absent"), now.get(key, "absent"), f"{path}.{key}") for key in keys]
        return [line for part in parts for line in part]
    if isinstance(golden, list) and isinstance(now, list) and len(golden) == len(now):
        parts = [different(*both, f"{path}[{at}]") for at, both in enumerate(zip(golden, now, strict=True))]
        return [line for part in parts for line in part]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (golden, now))
    same = math.isclose(golden, now, rel_tol=1e-9, abs_tol=1e-12) if numbers else golden == now
    return [] if same else [f"{path}: {golden!r} → {now!r}"]


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".json")])
def test_text_is_the_same_word_by_word(pair: tuple[Path, Path], name: str) -> None:
    golden, now = ((folder / name).read_text(encoding="utf-8") for folder in pair)
    assert now == golden


def test_sentences_of_every_moment_are_the_same_word_by_word() -> None:
    assert moments_text() == (GOLDEN / "moments.md").read_text(encoding="utf-8")


def test_a_comparison_of_studies_is_the_same_word_by_word() -> None:
    assert comparison_text() == (GOLDEN / "comparison.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["results.json", "figures.json"])
def test_numbers_are_the_same(pair: tuple[Path, Path], name: str) -> None:
    golden, now = (json.loads((folder / name).read_text(encoding="utf-8")) for folder in pair)
    assert golden
    assert different(golden, now) == []


def test_a_difference_is_found() -> None:
    golden = {"a": [1.0, {"b": "x"}], "n": None, "t": True}
    assert different(golden, json.loads(json.dumps(golden))) == []
    assert different(golden, {"a": [1.0 + 1e-12, {"b": "x"}], "n": None, "t": True}) == []
    assert different(golden, {"a": [1.1, {"b": "y"}], "t": 1, "z": 0}) == [
        ".a[0]: 1.0 → 1.1", ".a[1].b: 'x' → 'y'", ".n: None → 'absent'", ".z: 'absent' → 0",
    ]  # fmt: skip
    assert different([1], [1, 2]) == [": [1] → [1, 2]"]
