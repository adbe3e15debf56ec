"""Many rows in one statement: arrays on PostgreSQL, a prepared statement with a list of rows on SQLite.

A list of rows would be a statement a row on PostgreSQL; arrays in SQLite would pass numbers through text.
"""

import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection

Rows = Sequence[Mapping[str, Any]]  # all with the same names


def insert(connection: Connection, table: sa.Table, rows: Rows) -> None:
    """Inserts rows that name the same columns of `table`; nothing if there are none."""
    if not rows:
        return
    if connection.dialect.name != "postgresql":
        connection.execute(sa.insert(table), rows)
        return
    names = list(rows[0])
    source = _arrays({name: table.c[name] for name in names}, rows)
    values = [sa.cast(source.c[name], table.c[name].type) for name in names]
    connection.execute(sa.insert(table).from_select(names, sa.select(*values)))


def update(connection: Connection, table: sa.Table, rows: Rows, *where: sa.ColumnElement[bool], **same: Any) -> None:
    """Sets columns of the rows of `table` that have the `id` of a row in `rows`.

    Args:
        rows: each with "id" and the columns to be set to its own values.
        where: what else must hold of a row of `table`.
        same: columns that are set to one value in all rows.
    """
    if not rows:
        return
    names = [name for name in rows[0] if name != "id"]
    if connection.dialect.name != "postgresql":
        own = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
        statement = sa.update(table).where(table.c.id == sa.bindparam("key"), *where).values(**own, **same)
        connection.execute(
            statement, [{"key": row["id"], **{f"new_{name}": row[name] for name in names}} for row in rows]
        )
        return
    source = _arrays({"id": table.c.id, **{name: table.c[name] for name in names}}, rows)
    new = {name: sa.cast(source.c[name], table.c[name].type) for name in names}
    connection.execute(sa.update(table).where(table.c.id == source.c.id, *where).values(**new, **same))


def among(connection: Connection, column: sa.Column[int], ids: Iterable[int]) -> sa.ColumnElement[bool]:
    """`column IN (ids)` as one parameter: the same statement for any number of them, so that caches stay small."""
    if connection.dialect.name == "postgresql":
        return column == sa.any_(sa.bindparam(None, list(ids), type_=ARRAY(sa.Integer)))
    return column.in_(sa.select(sa.func.json_each(json.dumps(list(ids))).table_valued("value").c.value))


def _arrays(columns: Mapping[str, sa.Column[Any]], rows: Rows) -> sa.TableValuedAlias:
    """The rows as a table `new` in a FROM clause, one array a column; what has no array of its own goes as text."""
    plain = {name: isinstance(column.type, sa.Enum | sa.JSON) for name, column in columns.items()}
    types = {name: sa.Text() if plain[name] else column.type for name, column in columns.items()}
    binds = [
        sa.bindparam(
            f"new_{name}",
            [_as_text(row[name], column.type) if plain[name] else row[name] for row in rows],
            type_=ARRAY(types[name]),
        )
        for name, column in columns.items()
    ]
    names = [sa.column(name, types[name]) for name in columns]
    return sa.func.unnest(*binds).table_valued(*names, name="new").render_derived()


def _as_text(value: Any, kind: sa.types.TypeEngine[Any]) -> str | None:
    if value is None:
        return None
    if isinstance(kind, sa.JSON):
        return json.dumps(value)
    return value.name if isinstance(value, enum.Enum) else str(value)
