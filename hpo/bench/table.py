"""Tables for a terminal, printed a row at a time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Columns = Mapping[str, tuple[int, str]]
Row = dict[str, Any]
OnRow = Callable[[Row], None]


class Table:
    """Prints its header at once, and each row when it is called with it."""

    def __init__(self, columns: Columns, print_line: Callable[[str], None]) -> None:
        """
        Args:
            columns: heading → width and format of a cell, such as "{ms:.3f}", which is filled in with the row's
                values; the cell stays empty if one of them is missing or None.
        """
        self._columns, self._print = columns, print_line
        self._print_cells(list(columns))

    def __call__(self, row: Row) -> None:
        self._print_cells([_cell(template, row) for _, template in self._columns.values()])

    def _print_cells(self, cells: Sequence[str]) -> None:
        widths = [width for width, _ in self._columns.values()]
        self._print("  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip())


def _cell(template: str, row: Row) -> str:
    try:
        return template.format(**{name: value for name, value in row.items() if value is not None})
    except (KeyError, TypeError):
        return ""
