"""What a benchmark shows in a terminal."""

from typing import Any

from hpo.bench.table import Table


def check_table(benchmark: Any, result: dict[str, Any], row: dict[str, Any]) -> None:
    """The table has a cell for every value of the row, and the summary can be printed."""
    lines: list[str] = []
    for heading, column in benchmark.COLUMNS.items():
        Table({heading: column}, lines.append)(row)
    empty = [heading for heading, cell in zip(benchmark.COLUMNS, lines[1::2], strict=True) if not cell]
    assert set(empty) <= {"tuning runs", "others"}, empty
    assert benchmark.summary(result)
