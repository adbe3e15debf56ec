"""`hpo status --watch`: the status again and again, redrawn in place on a terminal, block after block elsewhere."""

import json
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from hpo.cli.terminal.status import status, status_text


def watch(
    engine: Any,
    study: str | None,
    seconds: float,
    as_json: bool = False,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Shows the status every `seconds`, until interrupted or, with a `study` given, until it is done.

    Args:
        as_json: one line of JSON each time instead of tables.

    Raises:
        UsageError: there is no such study.
    """
    console = console or Console(highlight=False)
    found = status(engine, study)  # before anything is drawn: a study that is not there is one plain sentence
    if console.is_terminal and not as_json:
        with Live(_drawn(found, seconds), console=console, auto_refresh=False) as live:
            while not _over(found, study):
                sleep(seconds)
                found = status(engine, study)
                live.update(_drawn(found, seconds), refresh=True)
            live.update(Text(status_text(found)), refresh=True)
        return
    while True:
        text = json.dumps(found) if as_json else f"{time.strftime('%H:%M:%S')}\n{status_text(found)}\n"
        console.file.write(f"{text}\n")
        console.file.flush()
        if _over(found, study):
            return
        sleep(seconds)
        found = status(engine, study)


def _drawn(found: dict[str, Any], seconds: float) -> Text:
    foot = f"\n\n{time.strftime('%H:%M:%S')}, every {seconds:g} s; Ctrl-C ends the watch"
    return Text(status_text(found)).append(foot, style="dim")


def _over(found: dict[str, Any], study: str | None) -> bool:
    return study is not None and found[study]["state"] == "done"
