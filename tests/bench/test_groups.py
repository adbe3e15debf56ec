"""`hpo bench groups` shows false alarms and power, and fails where the rule sees two groups everywhere or nowhere."""

import json

import pytest
from typer.testing import CliRunner

from hpo.bench import groups
from hpo.bench.table import Table
from hpo.cli import app
from hpo.errors import HpoError
from tests.bench.tables import check_table

COMMAND = ["bench", "groups", "--samples", "40", "--values", "10"]


def test_rates() -> None:
    rows: list[groups.Row] = []
    result = groups.measure(40, [10], rows.append)
    assert result["rows"] == rows and result["passes"] and all(row["found"]["total"] == 40 for row in rows)
    wide = next(row for row in rows if row["distance"] == groups.CLEAR_DISTANCE)
    check_table(groups, result, wide)
    assert wide["found"]["share"] == 1 and wide["passes"] is True
    lines: list[str] = []
    Table(groups.COLUMNS, lines.append)(next(row for row in rows if row["passes"] is None))
    assert lines[0].split()[-1] == "passes" and len(lines[1]) < len(lines[0]), "nothing stands below it"
    alone = [row for row in rows if row["distance"] is None]
    assert len(alone) == len(groups.ONE_GROUP) + 4 and all(row["found"]["share"] < 0.1 for row in alone)


@pytest.mark.parametrize("answer", [None, object()])
def test_a_wrong_rule_does_not_pass(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, [*COMMAND, "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["passes"] is True
    monkeypatch.setattr(groups, "find_two_groups", lambda _: answer)
    result = CliRunner().invoke(app, COMMAND)
    assert isinstance(result.exception, HpoError) and "False" in result.stdout
