"""A worker's output: lines for a person, or one JSON message per line for the `hpo run` that started it."""

import logging
import re
import signal
import sysconfig
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hpo
from hpo.errors import plural
from hpo.output import logging_to, visible, write_line
from hpo.storage.ledger import Work
from hpo.storage.transactions import reason
from hpo.worker.processes import message_line
from hpo.worker.signals import Stopped

if TYPE_CHECKING:
    from hpo.training.recipe import Result


class Messenger:
    """Prints a worker's events and logged warnings to standard output."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.start = time.monotonic()

    def warnings(self) -> AbstractContextManager[None]:
        """Prints what hpo logs as a warning or an error until the block ends."""
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: self.send("warning", text=record.getMessage())  # type: ignore[method-assign]
        return logging_to(handler, "hpo")

    def on_event(self, kind: str, details: dict[str, Any]) -> None:
        """Prints or sends an event of `run_worker`."""
        if kind == "failed":
            self.send(kind, **_about(details["work"]), cause=details["cause"], text=error_line(details["message"]))
        elif kind == "finished":
            about, counted = _about(details["work"]), len(details["outcomes"])
            self.send(kind, **about, counted=counted)
        elif kind == "mirror":
            text = f"Optuna's tables could not be written ({reason(details['error'])}); they will be repaired later"
            self.send("warning", text=text)
        elif kind == "refused":
            self.send("warning", text=details["text"])
        elif kind == "population":
            text = f"{details['configuration']}: out of memory; continuing with {details['size']} models at once"
            self.send("warning", text=text)

    def pass_on(self, message: Mapping[str, Any]) -> None:
        """Prints or sends a message of another process."""
        self.send(**message)

    def send(self, kind: str, **details: Any) -> None:
        """Prints one message."""
        if self.as_json:
            line = message_line(kind, **details)
        elif "configuration" in details:
            seconds = time.monotonic() - self.start
            kind_of_run = "rerun" if details["phase"] == "rerun" else "trial"
            runs = plural(details.get("counted", details["models"]), kind_of_run)
            cause = f" ({details['cause']}): {details['text']}" if kind == "failed" else ""
            if details.get("counted", details["models"]) < details["models"]:
                cause = f"; {details['models'] - details['counted']} had been taken over by another worker"
            line = visible(f"[{seconds:6.1f} s] {details['configuration']}: {runs} {kind}{cause}")
        else:
            line = f"hpo: {details['text']}"
        write_line(line)


def stop_reason(stopped: Stopped) -> str:
    """Why a command was stopped, in words."""
    return "time limit reached" if stopped.number == signal.SIGALRM else "interrupted"


def print_epoch(epoch: int, results: "Sequence[Result]") -> None:
    """Prints the metrics of the first model after an epoch, unless it has diverged."""
    if results[0].diverged_epoch is None:
        metrics = "  ".join(f"{name} {values[-1]:.4g}" for name, values in results[0].curves.items())
        write_line(f"epoch {epoch:3d}  {metrics}")


def error_line(trace: str) -> str:
    """The last line of a traceback's text, after the last file and line in it that belong to the user."""
    last = re.sub(r"^hpo\.[\w.]+: ", "", trace.strip().split("\n")[-1])  # hpo's own errors are sentences
    lines = [match for match in re.findall(r'File "(.+?)", line (\d+)', trace) if _is_users(match[0])]
    return f"{Path(lines[-1][0]).name}, line {lines[-1][1]}: {last}" if lines else last


def user_traceback(error: BaseException) -> str:
    """A traceback of the frames in the user's files, or of all frames if there are none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    if not frames:
        return "".join(traceback.format_exception(error)).rstrip()
    lines = ["Traceback into your code:\n", *traceback.format_list(frames), *traceback.format_exception_only(error)]
    return "".join(lines).rstrip()


def _is_users(file: str) -> bool:
    path = Path(file)
    others = Path(hpo.__file__).parent, Path(sysconfig.get_path("stdlib"))
    installed = {"site-packages", "dist-packages"} & set(path.parts) or any(map(path.is_relative_to, others))
    return not installed and not file.startswith("<")


def _about(work: Work) -> dict[str, Any]:
    return {"configuration": work.configuration, "phase": work.phase, "models": len(work.slots)}
