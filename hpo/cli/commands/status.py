"""`hpo status`: the progress of studies."""

import json
import re
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from hpo.cli.options import AsJson, Storage, app
from hpo.output import write_line

WATCH_SECONDS = 2


class WatchCommand(TyperCommand):
    """A command whose `--watch` may come without its number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for index in [index for index, word in enumerate(args) if word == "--watch"]:
            if not args[index + 1 : index + 2] or not re.fullmatch(r"[\d.]+", args[index + 1]):
                args[index] = f"--watch={WATCH_SECONDS}"
        return super().parse_args(ctx, args)


@app.command(cls=WatchCommand)
def status(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="By default all studies.")] = None,
    storage: Storage = None,
    watch: Annotated[
        float | None,
        typer.Option(
            metavar="[SECONDS]",
            min=0.2,
            help=f"Update every {WATCH_SECONDS} (or SECONDS) seconds, until STUDY is finished or Ctrl-C.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show trials, reruns, workers and failures."""
    from hpo import api
    from hpo.cli.terminal.status import read_status, status_text
    from hpo.storage.database import connect, connect_existing, existing_engine
    from hpo.storage.url import check_folder, exists, read
    from hpo.study import study_files

    url, name = api.storage_url(storage), study_files.study_name(study) if study else None
    engine = connect_existing(url) if exists(url) else None
    if engine is None and watch is None and not study:  # creates no database, but says if none could be created
        if not exists(url):
            check_folder(read(url))
        write_line(json.dumps({}) if as_json else status_text({}))
        return
    if engine is None:
        engine = existing_engine(url) if watch is None else connect(url)  # a watch waits for the study
    if watch is not None:
        from hpo.cli.terminal.watch import watch_status

        watch_status(engine, name, watch, as_json)
        return
    studies = read_status(engine, name)
    write_line(json.dumps(studies, indent=1) if as_json else status_text(studies))
