"""`hpo status`: how far a study is."""

import json
import re
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperCommand

from hpo.cli.options import AsJson, Storage, app

WATCH_SECONDS = 2


class WatchCommand(TyperCommand):
    """A command whose `--watch` may stand without its number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place in [place for place, word in enumerate(args) if word == "--watch"]:
            if not args[place + 1 : place + 2] or not re.fullmatch(r"[\d.]+", args[place + 1]):
                args[place] = f"--watch={WATCH_SECONDS}"
        return super().parse_args(ctx, args)


@app.command(cls=WatchCommand)
def status(
    study: Annotated[Optional[str], typer.Argument(metavar="[STUDY]", help="All studies if left out.")] = None,  # noqa: UP045
    storage: Storage = None,
    watch: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            metavar="[SECONDS]",
            min=0.2,
            help=f"Show it anew every {WATCH_SECONDS} seconds, or as many as given, until STUDY is done or Ctrl-C.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Trials, reruns, workers, and failures by cause."""
    from hpo import api
    from hpo.cli.terminal.status import status as read_status
    from hpo.cli.terminal.status import status_text
    from hpo.storage.database import connect
    from hpo.storage.url import check_folder, exists, read
    from hpo.study import loading

    url, name = api.storage_url(storage), loading.study_name(study) if study else None
    if not watch and not study and not exists(url):  # a look makes no database, but says where none could be made
        check_folder(read(url))
        typer.echo(json.dumps({}) if as_json else status_text({}))
        return
    engine = connect(url)
    if watch is not None:
        from hpo.cli.terminal.watch import watch as show_again

        show_again(engine, name, watch, as_json)
        return
    found = read_status(engine, name)
    typer.echo(json.dumps(found, indent=1) if as_json else status_text(found))
