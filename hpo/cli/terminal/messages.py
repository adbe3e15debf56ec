"""What a worker says: plain lines for a person, or one JSON message a line for the `hpo run` that started it."""

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hpo
from hpo.errors import plural
from hpo.storage.ledger import Work


class Messenger:
    """Turns a worker's events, epochs and log warnings into lines on standard output."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.start = time.monotonic()
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: self.send("warning", text=record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("hpo").addHandler(handler)

    def on_event(self, kind: str, details: dict[str, Any]) -> None:
        """An event of `run_worker`."""
        if kind == "failed":
            text = own_line(details["message"])
            self.send(kind, **_about(details["work"]), cause=details["cause"], text=text)
        elif kind == "finished":
            self.send(kind, **_about(details["work"]))
        elif kind == "mirror":
            text = f"Optuna's tables could not be written and will be repaired later: {details['error']}"
            self.send("warning", text=text)
        elif kind == "population":
            models = f"{details['size']} models at once"
            self.send("warning", text=f"{details['configuration']}: out of memory; from now on {models}")

    def on_epoch(self, work: Work, epoch: int, epochs: int) -> None:
        """The end of an epoch."""
        if self.as_json:
            self.send("epoch", **_about(work), epoch=epoch, epochs=epochs)

    def send(self, kind: str, **details: Any) -> None:
        """One message."""
        if self.as_json:
            line = json.dumps({"kind": kind, **details})
        elif "configuration" in details:
            seconds = time.monotonic() - self.start
            phase = "rerun" if details["phase"] == "rerun" else "trial"
            runs = f"{plural(details['models'], phase)} {kind}"
            cause = f" ({details['cause']}): {details['text']}" if kind == "failed" else ""
            line = f"[{seconds:6.1f} s] {details['configuration']}: {runs}{cause}"
        else:
            line = f"hpo: {details['text']}"
        print(line, flush=True)


def print_epoch(epoch: int, rows: Mapping[str, list[float]]) -> None:
    """One line an epoch with the first member's metrics."""
    metrics = "  ".join(f"{name} {values[0]:.4g}" for name, values in rows.items())
    print(f"epoch {epoch:3d}  {metrics}", flush=True, file=sys.stdout)


def own_line(trace: str) -> str:
    """The last line of a traceback's text, behind the last place in it that is neither ours nor a library's."""
    last = trace.strip().splitlines()[-1]
    places = [(file, line) for file, line in re.findall(r'File "(.+?)", line (\d+)', trace) if _is_own(file)]
    return f"{Path(places[-1][0]).name}, line {places[-1][1]}: {last}" if places else last


def own_traceback(error: BaseException) -> str:
    """A traceback of the frames in the user's own files, or of all where there are none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    if not frames:
        return "".join(traceback.format_exception(error)).rstrip()
    lines = ["Traceback into your code:\n", *traceback.format_list(frames), *traceback.format_exception_only(error)]
    return "".join(lines).rstrip()


def _is_own(file: str) -> bool:
    path = Path(file)
    ours = path.is_relative_to(Path(hpo.__file__).parent)
    return not ours and not {"site-packages", "dist-packages"} & set(path.parts) and not file.startswith("<")


def _about(work: Work) -> dict[str, Any]:
    return {"configuration": work.configuration, "phase": work.phase, "models": len(work.slots)}
