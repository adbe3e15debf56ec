"""`hpo status --watch`: the status at intervals, redrawn in place on a terminal, one block after another elsewhere."""

import json
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from hpo.cli.terminal.status import read_status, status_text
from hpo.output import visible


def watch_status(
    engine: Any,
    study: str | None,
    seconds: float,
    as_json: bool = False,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Shows the status every `seconds`, until Ctrl-C or, with a `study`, until it is finished.

    Args:
        as_json: print one line of JSON each time instead of tables.

    Raises:
        UsageError: there is no such study.
    """
    console = console or Console(highlight=False)
    if console.is_terminal and not as_json:
        studies = read_status(engine, study)  # before drawing: an unknown study is one plain sentence
        with Live(_drawn(studies, seconds), console=console, auto_refresh=False) as live:
            while not _is_over(studies, study):
                sleep(seconds)
                studies = read_status(engine, study)
                live.update(_drawn(studies, seconds), refresh=True)
            live.update(Text(status_text(studies)), refresh=True)
        return
    while True:
        studies = read_status(engine, study)
        text = json.dumps(studies) if as_json else f"{time.strftime('%H:%M:%S')}\n{status_text(studies)}\n"
        console.file.write(visible(f"{text}\n", keep="\n"))
        console.file.flush()
        if _is_over(studies, study):
            return
        sleep(seconds)


def _drawn(studies: dict[str, Any], seconds: float) -> Text:
    """Tables of the unfinished studies, and a line that names the others: all tables would seldom fit a terminal."""
    unfinished = {name: study for name, study in studies.items() if study["state"] != "done"}
    finished = [visible(name) for name in studies if name not in unfinished] if unfinished else []
    others = f"\n\nfinished: {', '.join(finished)}" if finished else ""
    foot = f"\n\n{time.strftime('%H:%M:%S')}, updated every {seconds:g} s; Ctrl-C quits"
    return Text(status_text(unfinished or studies) + others).append(foot, style="dim")


def _is_over(studies: dict[str, Any], study: str | None) -> bool:
    return study is not None and studies[study]["state"] == "done"
