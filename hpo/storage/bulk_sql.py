"""Many rows in one statement: JSON on PostgreSQL, a prepared statement with a list of rows on SQLite.

A list of rows would be a statement a row on PostgreSQL; JSON would be slower than a list on SQLite.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection

Rows = Sequence[Mapping[str, Any]]  # all with the same names
_READ_AS_THEY_ARE = (sa.Integer, sa.Float, sa.DateTime, sa.JSON)  # other types are read as text


def insert(connection: Connection, table: sa.Table, rows: Rows) -> None:
    """Inserts rows that name the same columns of `table`."""
    if not rows:
        return
    if connection.dialect.name != "postgresql":
        connection.execute(sa.insert(table), rows)
        return
    names = list(rows[0])
    new = _from_json(table, names, rows)
    connection.execute(sa.insert(table).from_select(names, sa.select(*(_typed(new, table, name) for name in names))))


def update(connection: Connection, table: sa.Table, rows: Rows, *where: sa.ColumnElement[bool], **shared: Any) -> None:
    """Sets columns of the rows of `table` that have the `id` of a row in `rows`.

    Args:
        rows: each with "id" and new values of the same columns.
        where: further conditions on a row of `table`.
        shared: columns that are set to one value in all rows.
    """
    if not rows:
        return
    names = [name for name in rows[0] if name != "id"]
    if connection.dialect.name != "postgresql":
        new_values = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
        statement = sa.update(table).where(table.c.id == sa.bindparam("new_id"), *where).values(**new_values, **shared)
        connection.execute(statement, [{f"new_{name}": value for name, value in row.items()} for row in rows])
        return
    new = _from_json(table, ["id", *names], rows)
    values = {name: _typed(new, table, name) for name in names}
    connection.execute(sa.update(table).where(table.c.id == new.c.id, *where).values(**values, **shared))


def among(connection: Connection, column: sa.Column[int], ids: Iterable[int]) -> sa.ColumnElement[bool]:
    """`column IN (ids)` as one parameter: the same statement for any number of ids, so that caches stay small."""
    if connection.dialect.name == "postgresql":
        return column == sa.any_(sa.bindparam(None, list(ids), type_=ARRAY(sa.Integer)))
    return column.in_(sa.select(sa.func.json_each(json.dumps(list(ids))).table_valued("value").c.value))


def _from_json(table: sa.Table, names: Sequence[str], rows: Rows) -> sa.TableValuedAlias:
    """The rows as a table `new` in a FROM clause of PostgreSQL. Texts are read without a length: a cast cuts them."""
    types = {name: table.c[name].type for name in names}
    columns = [
        sa.column(name, kind if isinstance(kind, _READ_AS_THEY_ARE) else sa.Text()) for name, kind in types.items()
    ]
    plain = [{name: value.name if isinstance(value, Enum) else value for name, value in row.items()} for row in rows]
    text = json.dumps(plain, default=datetime.isoformat)
    recordset = sa.func.json_to_recordset(sa.cast(sa.bindparam("new_rows", text, type_=sa.Text()), sa.JSON))
    return recordset.table_valued(*columns, name="new").render_derived(with_types=True)


def _typed(new: sa.TableValuedAlias, table: sa.Table, name: str) -> sa.ColumnElement[Any]:
    kind = table.c[name].type
    return sa.cast(new.c[name], kind) if isinstance(kind, sa.Enum) else new.c[name]
