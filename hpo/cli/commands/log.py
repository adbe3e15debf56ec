"""`hpo log`: a study's trials and reruns in an experiment tracker."""

import os
import sys
import threading
from contextlib import suppress
from typing import Annotated

import typer

from hpo.cli.options import Storage, StoredStudy, TrackerName, app
from hpo.errors import HpoError, plural
from hpo.output import write_line

MAX_SECONDS = 600.0  # for the last runs, after the workers have ended


@app.command()
def log(
    study: StoredStudy,
    tracker: Annotated[TrackerName, typer.Argument(metavar="TRACKER", help="tensorboard, wandb or mlflow.")],
    storage: Storage = None,
    follow: Annotated[bool, typer.Option("--follow", help="Log also what trains now, until it is finished.")] = False,
    messages: Annotated[bool, typer.Option("--messages", hidden=True)] = False,
    of_worker: Annotated[int | None, typer.Option("--of-worker", hidden=True)] = None,
) -> None:
    """Log each trial and rerun as a run of TensorBoard, W&B or MLflow; those that are logged already are left out."""
    from hpo import api
    from hpo.storage.database import existing_engine
    from hpo.storage.ledger import load_study
    from hpo.storage.ledger.worker_ids import host
    from hpo.study import study_files
    from hpo.trackers import open_tracker
    from hpo.trackers.follower import Follower
    from hpo.worker.processes import message_line

    ended = threading.Event()
    if messages:
        threading.Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
    ledger = load_study(existing_engine(api.storage_url(storage)), study_files.study_name(study))
    failures: list[str] = []

    def warn(reason: str) -> None:
        failures.append(reason)
        text = f"{tracker} failed ({_with_hint(reason)}); training continues, "
        text += f"and `hpo log {study} {tracker}` logs what is missing"
        if follow:
            write_line(message_line("warning", text=text) if messages else f"hpo: {text}", error=not messages)

    worker = f"{host()}:{of_worker}:" if of_worker else ""
    try:
        follower = Follower(ledger, open_tracker(tracker, ledger.study), follow, worker)
    except Exception as error:  # of any kind: it is another package's
        reason = f"{type(error).__name__}: {error}"
        if messages:
            warn(reason)
            return
        if isinstance(error, HpoError):
            raise
        raise HpoError(f"{tracker} failed: {reason}") from error
    complete = follower.follow(ended.wait if follow else lambda _: True, warn)
    with suppress(Exception):
        follower.close()
    if not complete and not messages:
        raise HpoError(f"{tracker} failed: {_with_hint(failures[0])}")
    if follower.logged or not messages:
        number = plural(follower.logged, "run") if follower.logged else "no new run"
        text = f"{tracker}: {number} of {ledger.study} logged to {follower.tracker.location}"
        write_line(message_line("logged", text=text) if messages else text)


def _with_hint(reason: str) -> str:
    """A reason, and what W&B does not say itself to someone without an account."""
    hint = "; or set WANDB_MODE=offline, which needs no account" if "wandb login" in reason else ""
    return reason.rstrip(".") + hint if hint else reason


def _wait_for_end(ended: threading.Event) -> None:
    """Waits until the process that started this one closes standard input or ends; then time is limited."""
    with suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    ended.set()
    threading.Event().wait(MAX_SECONDS)
    os._exit(1)
