"""`hpo best`: the settings that tuning chose."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo.cli.options import AsJson, Storage, StoredStudy, app
from hpo.output import write_line


@app.command()
def best(
    study: StoredStudy,
    configuration: Annotated[
        str | None, typer.Option("--configuration", "-c", help="One configuration; by default all.")
    ] = None,
    storage: Storage = None,
    as_json: AsJson = False,
    as_python: Annotated[
        bool,
        typer.Option("--python", help="Print a script that trains the one to use in plain PyTorch, without hpo."),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With --python: write the samples to this file (.pt), which the script reads."
        ),
    ] = None,
) -> None:
    """Show the best setting of every configuration and tuning run, and which to use, or a script that trains it."""
    from hpo import api, notebooks
    from hpo.errors import UsageError, check_configuration

    if (as_json and as_python) or (data is not None and not as_python):
        raise UsageError("--json and --python exclude each other, and --data FILE belongs to --python; leave one out")
    results = notebooks.results(study, storage)
    table = results.best
    known = list(dict.fromkeys(results.trials["configuration"]))
    if configuration is not None:
        check_configuration(results.name, configuration, known)
        table = table[table["configuration"] == configuration]
    if as_python:
        from hpo.cli.training_script import training_script
        from hpo.storage.database import existing_engine
        from hpo.storage.ledger import load_study

        ledger = load_study(existing_engine(api.storage_url(storage)), results.name)
        write_line(training_script(results, ledger, study, configuration, data).rstrip())
        return
    plain = list(table)[:6]
    rows: list[dict[str, Any]] = []
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        setting = {name: row[name] for name in results.hyperparameters[row["configuration"]] if name in row}
        rows.append({key: row[key] for key in plain} | {"setting": setting})
    if as_json:
        write_line(json.dumps(rows, indent=2))
    elif rows:
        _print(rows, results.choice_rule)
    else:
        write_line("no finished trial has a score yet")


def _print(rows: list[dict[str, Any]], choice_rule: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from hpo.output import visible

    several = len({row["tuning_run"] for row in rows}) > 1
    table = Table(box=None, pad_edge=False)
    compared = ["compared by"] if several else []
    for column in ("configuration", *(["tuning run"] if several else []), "score", *compared, "setting"):
        table.add_column(column, justify="left" if column in ("configuration", "setting") else "right", overflow="fold")
    for row in rows:
        setting = ", ".join(
            f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in row["setting"].items()
        )
        run = [f"{'* ' if row['chosen'] else ''}{row['tuning_run']}"] if several else []
        score = row["compared_score"]
        compared = ["–" if score is None else f"{score:.4g}"] if several else []
        table.add_row(visible(row["configuration"]), *run, f"{row['score']:.4g}", *compared, visible(setting))
    Console(highlight=False, markup=False).print(table)
    if several:
        write_line(visible(f"* is the setting to use, {choice_rule}."))
