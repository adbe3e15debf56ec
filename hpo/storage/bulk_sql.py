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
_PLAIN = (sa.Integer, sa.Float, sa.DateTime, sa.LargeBinary)  # other types travel as text


def insert(connection: Connection, table: sa.Table, rows: Rows) -> None:
    """Inserts rows that name the same columns of `table`; nothing if there are none."""
    if not rows:
        return
    if connection.dialect.name != "postgresql":
        connection.execute(sa.insert(table), rows)
        return
    names = list(rows[0])
    source = _arrays({name: table.c[name] for name in names}, rows)
    values = [_typed(source.c[name], table.c[name].type) for name in names]
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
    new = {name: _typed(source.c[name], table.c[name].type) for name in names}
    connection.execute(sa.update(table).where(table.c.id == source.c.id, *where).values(**new, **same))


def among(connection: Connection, column: sa.Column[int], ids: Iterable[int]) -> sa.ColumnElement[bool]:
    """`column IN (ids)` as one parameter: the same statement for any number of them, so that caches stay small."""
    if connection.dialect.name == "postgresql":
        return column == sa.any_(sa.bindparam(None, list(ids), type_=ARRAY(sa.Integer)))
    return column.in_(sa.select(sa.func.json_each(json.dumps(list(ids))).table_valued("value").c.value))


def array(values: Iterable[Any], kind: sa.types.TypeEngine[Any]) -> str:
    """The values as PostgreSQL reads an array; the driver's own way of writing a list of texts takes far longer."""
    return "{" + ",".join(_element(value, kind) for value in values) + "}"


def _arrays(columns: Mapping[str, sa.Column[Any]], rows: Rows) -> sa.TableValuedAlias:
    """The rows as a table `new` in a FROM clause, one array a column; what has no array of its own goes as text."""
    types = {name: column.type if isinstance(column.type, _PLAIN) else sa.Text() for name, column in columns.items()}
    binds = [
        sa.cast(
            sa.bindparam(f"new_{name}", array([row[name] for row in rows], column.type), type_=sa.Text()),
            ARRAY(types[name]),
        )
        for name, column in columns.items()
    ]
    names = [sa.column(name, types[name]) for name in columns]
    return sa.func.unnest(*binds).table_valued(*names, name="new").render_derived()


def _typed(column: sa.ColumnElement[Any], kind: sa.types.TypeEngine[Any]) -> sa.ColumnElement[Any]:
    """A column of `_arrays` with its type. Texts keep theirs: a cast would cut off what is too long for a column."""
    return sa.cast(column, kind) if isinstance(kind, sa.Enum | sa.JSON) else column


def _element(value: Any, kind: sa.types.TypeEngine[Any]) -> str:
    if value is None:
        return "NULL"
    if isinstance(kind, sa.Integer):
        return str(int(value))
    if isinstance(kind, sa.Float):
        return repr(float(value))  # the shortest form that gives the same number back
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    if isinstance(kind, sa.JSON):
        value = json.dumps(value)
    text = value.name if isinstance(value, enum.Enum) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
