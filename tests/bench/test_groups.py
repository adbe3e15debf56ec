"""`hpo bench groups` shows false alarms and power, and fails where the rule sees two groups everywhere or nowhere."""

import json

import pytest
from typer.testing import CliRunner

from hpo.analysis.two_groups import TwoGroups
from hpo.bench import groups
from hpo.bench.table import Table
from hpo.cli import app
from hpo.errors import HpoError
from tests.bench.tables import check_table

COMMAND = ["bench", "groups", "--samples", "40", "--values", "10"]


def test_rates() -> None:
    rows: list[groups.Row] = []
    result = groups.measure(40, [10], rows.append)
    assert result["rows"] == rows and result["passes"] and all(row["either"]["total"] == 40 for row in rows)
    wide = next(row for row in rows if row["distance"] == groups.CLEAR_DISTANCE)
    single = next(row for row in rows if row["distance"] == groups.CLEAR_DISTANCE and row["values"].endswith("9:1"))
    check_table(groups, result, wide)
    assert wide["groups"]["share"] == 1 and wide["apart"]["share"] == 0 and wide["passes"] is True
    assert single["apart"]["share"] == 1 and single["groups"]["share"] == 0 and single["passes"] is None
    lines: list[str] = []
    Table(groups.COLUMNS, lines.append)(next(row for row in rows if row["passes"] is None))
    assert lines[0].split()[-1] == "passes" and len(lines[1]) < len(lines[0]), "nothing stands below it"
    alone = [row for row in rows if row["distance"] is None]
    assert len(alone) == len(groups.ONE_GROUP) + len(groups.SHARES) + len(groups.CORRELATIONS) + 4
    assert all(row["either"]["share"] < 0.2 for row in alone)


@pytest.mark.parametrize("answer", [None, TwoGroups("seed", {0: 0.0, 1: 0.0}, {2: 1.0, 3: 1.0}, 1.0, 0.0, 1.0)])
def test_a_wrong_rule_does_not_pass(answer: TwoGroups | None, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, [*COMMAND, "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["passes"] is True
    monkeypatch.setattr(groups, "find_two_groups", lambda *_: answer)
    result = CliRunner().invoke(app, COMMAND)
    assert isinstance(result.exception, HpoError) and "False" in result.stdout
