"""`--where`: which runs an SQL condition is true of, by DuckDB over a table with a row per run.

Columns are the runs' keys and figures by name. A dotted name is one name (trainer.lr > 1e-4); one
with a space is quoted ("speed.batch 1.p50" < 10). The condition sees this table and nothing else:
no file, no network, no setting.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from gossamer.errors import ConfigError
from gossamer.records.runs import Run, figure_names, key_names, nearest

FACTS = ("id", "config_digest", "host", "device", "started", "finished")
TWIN = "dense."  # dense.accuracy: the twin's
TOKEN = re.compile(
    r"'(?:[^']|'')*'"  # a text
    r'|"(?:[^"]|"")*"'  # a quoted name
    r"|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"  # a number
    r"|[A-Za-z_]\w*(?:\.\w+)*(?:\s*\()?"  # a name, dotted or not; or a function's
)


def where(sql: str, every: Sequence[Run]) -> list[Run]:
    """The runs of which `sql` is true. Raises ConfigError, with the nearest names, if it is wrong,
    or anything else than one expression that is true or false of each run."""
    import duckdb

    figures = figure_names(every)
    twins = [TWIN + name for name in figures if "." not in name]
    known = list(dict.fromkeys([*key_names(every), *figures, *FACTS, *twins]))
    condition, columns = _quoted(sql, known)
    connection = duckdb.connect(config={"enable_external_access": "false"})
    try:
        connection.execute("SET lock_configuration = true")
        _fill(connection, every, columns)
        inner = f"(\n{condition}\n)"
        for text in (condition, inner):  # balanced by itself, and without a clause after it
            duckdb.SQLExpression(text)
        connection.execute(f"SELECT _row, {inner} FROM runs")
        answers = connection.fetchall()
        fitting = all(len(row) == 2 and isinstance(row[1], bool | None) for row in answers)
        if not fitting or len(answers) != len(every):
            raise ConfigError(f"--where {sql}: no condition that is true or false of each run")
        return [every[row] for row, true in sorted(answers) if true]
    except duckdb.Error as error:
        raise ConfigError(f"--where {sql}: {_explained(str(error), sql, known)}") from error
    finally:
        connection.close()


def _quoted(sql: str, known: Sequence[str]) -> tuple[str, list[str]]:
    """The condition with the names of columns quoted, and the columns that it names."""
    folded = {name.casefold(): name for name in reversed(known)}
    columns: dict[str, None] = {}

    def quote(found: re.Match[str]) -> str:
        token = found[0]
        name = folded.get(token.strip('"').casefold())
        if name is None or token.startswith("'"):
            return token
        columns[name] = None
        return '"' + name.replace('"', '""') + '"'

    return TOKEN.sub(quote, sql), list(columns)


def _fill(connection: Any, every: Sequence[Run], columns: Sequence[str]) -> None:
    """Make the table `runs` of these columns, each a number, true or false, or text."""
    values = [[_value(run, name) for run in every] for name in columns]
    kinds = [_kind(column) for column in values]
    texts = [
        [value if value is None or kind != "VARCHAR" else str(value) for value in column]
        for column, kind in zip(values, kinds, strict=True)
    ]
    rows = list(zip(range(len(every)), *texts, strict=True))
    names = [f"c{place}" for place in range(len(columns))]
    objects = [dict(zip(("_row", *names), row, strict=True)) for row in rows]
    shape = [{"_row": "BIGINT", **dict(zip(names, kinds, strict=True))}]
    titles = [name.replace('"', '""') for name in columns]
    chosen = [f'{name} AS "{title}"' for name, title in zip(names, titles, strict=True)]
    connection.execute(
        f"CREATE TABLE runs AS SELECT {', '.join(['_row', *chosen])} FROM "
        "(SELECT unnest(from_json($rows, $shape), recursive := true))",
        {
            "rows": msgspec.json.encode(objects).decode(),
            "shape": msgspec.json.encode(shape).decode(),
        },
    )


def _value(run: Run, name: str) -> Any:
    if name in run.keys:
        return run.keys[name]
    if name in FACTS:
        return getattr(run.record, name)
    if name.startswith(TWIN):
        return run.twin_figure(name.removeprefix(TWIN))
    return run.figure(name)


def _kind(column: Sequence[Any]) -> str:
    kinds = {type(value) for value in column if value is not None}
    if kinds == {bool}:
        return "BOOLEAN"
    if kinds and kinds <= {int, float}:
        return "BIGINT" if kinds == {int} else "DOUBLE"
    return "VARCHAR"


def _explained(message: str, sql: str, known: Sequence[str]) -> str:
    """DuckDB's message in a line; of a name that is no column, the nearest ones."""
    if found := re.search(r'Referenced (?:column|table) "([^"]*)" not found', message):
        name = found[1]
        for token in TOKEN.findall(sql):
            if token.startswith(f"{name}."):
                name = token
        return f"no column {name}{nearest(name, known)}"
    return message.splitlines()[0]
