"""Checkpoints: long runs kept in a shared folder, so that whoever takes one over goes on where it was."""

import hashlib
import io
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from hpo.errors import HpoError, UsageError

log = logging.getLogger(__name__)

FOLDER, MINUTES = "HPO_CHECKPOINTS", "HPO_CHECKPOINT_MINUTES"


def from_environment(study: str) -> "Checkpoints | None":
    """Checkpoints in the folder that `HPO_CHECKPOINTS` names, every `HPO_CHECKPOINT_MINUTES` (10); None without one.

    Args:
        study: digest of everything that the study's runs depend on, the user's code included.

    Raises:
        HpoError: the folder cannot be written. UsageError: the minutes are no number above 0.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return None
    given = os.environ.get(MINUTES, "10")
    try:
        minutes = float(given)
    except ValueError:
        minutes = 0.0
    if not minutes > 0:
        raise UsageError(f"{MINUTES} is {given!r}; give a number of minutes above 0")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HpoError(f"{FOLDER} is {folder!r}, which cannot be made ({error.strerror}); name another") from error
    if not os.access(folder, os.W_OK):
        raise HpoError(f"{FOLDER} is {folder!r}, which cannot be written; change its permissions or name another")
    return Checkpoints(Path(folder), study, 60 * minutes)


class Checkpoints:
    """One file a run, replaced as a whole; a run is known by its study, configuration, phase, seed and setting.

    Each model of a population has a file of its own: whoever takes them over may hold other ones beside them.
    """

    def __init__(self, folder: Path, study: str, seconds: float) -> None:
        """seconds: between two checkpoints of a run."""
        self.folder, self.study, self.seconds = folder, study, seconds

    def path(self, configuration: str, phase: str, seed: int, setting: Mapping[str, float]) -> Path:
        """The file of a run."""
        identity = json.dumps([self.study, configuration, phase, seed, sorted(setting.items())])
        return self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.pt"

    def read(self, path: Path) -> dict[str, Any] | None:
        """What is kept of a run: "state" and "seconds"; None if there is nothing, or nothing whole.

        A damaged file is set aside as NAME.damaged, with a warning.
        """
        try:
            content = io.BytesIO(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("the checkpoint %s cannot be read now (%s); the run begins anew", path, error.strerror)
            return None
        try:
            kept = torch.load(content, map_location="cpu", weights_only=True)
            if kept["run"] != path.stem:
                raise ValueError("it belongs to another run")
            return {"state": kept["state"], "seconds": float(kept["seconds"])}
        except MemoryError:  # no fault of the file
            raise
        except Exception as error:  # whatever a torn file makes of the reader
            aside = path.with_suffix(".damaged")
            with suppress(FileNotFoundError):  # another one was faster
                path.replace(aside)
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            log.warning("the checkpoint %s is damaged (%s); it is set aside and the run begins anew", aside, reason)
            return None

    def write(self, path: Path, state: Mapping[str, Any], seconds: float) -> None:
        """Keeps a run; a disk that is full or away is a warning, for training can do without."""
        half = path.with_suffix(f".{uuid.uuid4().hex}.half")
        try:
            torch.save({"run": path.stem, "state": dict(state), "seconds": seconds}, half)
            half.replace(path)
        except (OSError, RuntimeError) as error:
            log.warning("no checkpoint could be written to %s (%s); training goes on without", self.folder, error)
        finally:  # a signal may have come in between
            half.unlink(missing_ok=True)

    def forget(self, path: Path) -> None:
        """Deletes what is kept of a finished run."""
        path.unlink(missing_ok=True)


class FileCheckpointer:
    """Keeps one population's runs while they train; a `loop.Checkpointer`."""

    def __init__(self, checkpoints: Checkpoints, paths: Sequence[Path], kept: Sequence[Mapping[str, Any]]) -> None:
        """
        Args:
            paths: the members' files. kept: what `Checkpoints.read` found of each; empty where they begin anew.
        """
        self.checkpoints, self.paths = checkpoints, paths
        self._kept = list(kept)
        self.before = sum(entry["seconds"] for entry in kept) / len(kept) if kept else 0.0
        self.begun = self.last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of training per model so far, those before the last interruption included."""
        return self.before + (time.monotonic() - self.begun) / len(self.paths)

    def load(self) -> list[dict[str, Any]] | None:
        """Called when this population's turn has come; what was read is given away, not held twice."""
        self.begun = self.last = time.monotonic()
        kept, self._kept = self._kept, []
        return [dict(entry["state"]) for entry in kept] or None

    def save(self, states: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        if time.monotonic() - self.last < self.checkpoints.seconds:
            return
        for path, state in zip(self.paths, states(), strict=True):
            self.checkpoints.write(path, state, self.seconds)
        self.last = time.monotonic()


def resume(checkpoints: Checkpoints, paths: Sequence[Path], limit: int) -> list[tuple[list[int], FileCheckpointer]]:
    """Groups of members that train together (positions in `paths`), saved at the same epoch, with their checkpointers.

    Members train side by side only from the same epoch on, so that a population made of runs that were kept at
    different ones is trained in parts; none of them has more than `limit` members.
    """
    found = [checkpoints.read(path) for path in paths]
    groups: dict[int, list[int]] = {}
    for member, kept in enumerate(found):
        groups.setdefault(kept["state"]["epoch"] if kept else 0, []).append(member)
    parts = [group[at : at + limit] for group in groups.values() for at in range(0, len(group), limit)]
    return [
        (
            part,
            FileCheckpointer(checkpoints, [paths[m] for m in part], [kept for m in part if (kept := found[m])]),
        )
        for part in parts
    ]
