"""Checkpoints: long runs saved in a shared folder, so that another worker can resume them."""

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
from hpo.space import as_json
from hpo.training.update_types import UnsavableState
from hpo.user_code.messages import warn_once

log = logging.getLogger(__name__)

FOLDER, MINUTES = "HPO_CHECKPOINTS", "HPO_CHECKPOINT_MINUTES"


def from_environment(study: str) -> "Checkpoints | None":
    """Checkpoints in the folder `HPO_CHECKPOINTS`, every `HPO_CHECKPOINT_MINUTES` (10); None without a folder.

    Args:
        study: digest of everything that the study's runs depend on, the user's code included.

    Raises:
        HpoError: the folder is not writable. UsageError: the minutes are not a number above 0.
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
        raise HpoError(f"{FOLDER} is {folder!r}, which cannot be created ({error.strerror}); name another") from error
    if not os.access(folder, os.W_OK):
        raise HpoError(f"{FOLDER} is {folder!r}, which is not writable; change its permissions or name another")
    return Checkpoints(Path(folder), study, 60 * minutes)


class Checkpoints:
    """One file per run, identified by its study, configuration, phase, seed and setting.

    Each model of a population has its own file, as another worker may train it with other models.
    """

    def __init__(self, folder: Path, study: str, seconds: float) -> None:
        """seconds: between two checkpoints of a run."""
        self.folder, self.study, self.seconds = folder, study, seconds

    def path(self, configuration: str, phase: str, seed: int, setting: Mapping[str, Any]) -> Path:
        """The file of a run."""
        values = [(name, as_json(value)) for name, value in sorted(setting.items())]
        identity = json.dumps([self.study, configuration, phase, seed, values])
        return self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.pt"

    def read(self, path: Path) -> dict[str, Any] | None:
        """The saved "state" and "seconds" of a run; None without a readable file.

        A damaged file is renamed to NAME.damaged, with a warning.
        """
        try:
            content = io.BytesIO(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cannot read the checkpoint %s (%s); the run restarts from scratch", path, error.strerror)
            return None
        try:
            saved = torch.load(content, map_location="cpu", weights_only=True)
            run, entries = saved["run"], {"state": saved["state"], "seconds": float(saved["seconds"])}
        except MemoryError:  # the file is not the cause
            raise
        except Exception:  # a damaged file can raise anything; PyTorch's advice would run code from the file
            _set_aside(path, "its content cannot be read")
            return None
        if run != path.stem:
            _set_aside(path, "it belongs to another run")
            return None
        return entries

    def write(self, path: Path, state: Mapping[str, Any], seconds: float) -> None:
        """Saves a run; a full or unavailable disk is only a warning, as training does not need checkpoints."""
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.half")
        try:
            torch.save({"run": path.stem, "state": dict(state), "seconds": seconds}, temporary)
            temporary.replace(path)
        except (OSError, RuntimeError) as error:
            log.warning(
                "cannot write a checkpoint to %s (%s); training continues without checkpoints", self.folder, error
            )
        finally:  # also after a signal
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def delete_run(path: Path) -> None:
    """Deletes a run's file, and what a worker that was killed while it wrote one has left; else it warns."""
    try:
        for each in (path, *path.parent.glob(f"{path.stem}.*.half")):
            each.unlink(missing_ok=True)
    except OSError as error:
        warn_once(f"cannot delete checkpoints in {path.parent} ({error.strerror}); delete them after the study")


def _set_aside(path: Path, reason: str) -> None:
    renamed = path.with_suffix(".damaged")
    with suppress(OSError):  # another worker has renamed it, or nobody can
        path.replace(renamed)
    log.warning("the checkpoint %s is damaged (%s); the run restarts from scratch", renamed, reason)


class FileCheckpointer:
    """Saves one population's runs while they train; a `loop.Checkpointer`."""

    def __init__(self, checkpoints: Checkpoints, paths: Sequence[Path], saved: Sequence[Mapping[str, Any]]) -> None:
        """
        Args:
            paths: the members' files. saved: the result of `Checkpoints.read` for each, or empty for new runs.
        """
        self.checkpoints, self.paths = checkpoints, paths
        self._saved = list(saved)
        self.earlier_seconds = sum(entry["seconds"] for entry in saved) / len(saved) if saved else 0.0
        self.started = self.last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of training per model so far, including those before the last interruption."""
        return self.earlier_seconds + (time.monotonic() - self.started) / len(self.paths)

    def load(self) -> list[dict[str, Any]] | None:
        """Called when training starts; the saved states are not kept here any longer."""
        self.started = self.last = time.monotonic()
        saved, self._saved = self._saved, []
        return [dict(entry["state"]) for entry in saved] or None

    def save(self, states: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        if time.monotonic() - self.last < self.checkpoints.seconds:
            return
        try:
            saved = states()
        except UnsavableState as error:
            warn_once(f"no checkpoints of these runs: {error}, which they cannot hold; training continues")
            saved = []
        for path, state in zip(self.paths, saved, strict=bool(saved)):
            self.checkpoints.write(path, state, self.seconds)
        self.last = time.monotonic()


def resume(checkpoints: Checkpoints, paths: Sequence[Path], limit: int) -> list[tuple[list[int], FileCheckpointer]]:
    """Groups of at most `limit` members (indices into `paths`) that were saved at the same epoch, with checkpointers.

    Members train side by side from the same epoch only, so that a population whose runs were saved at different epochs
    is trained in parts.
    """
    saved = [checkpoints.read(path) for path in paths]
    by_epoch: dict[int, list[int]] = {}
    for member, entry in enumerate(saved):
        by_epoch.setdefault(entry["state"]["epoch"] if entry else 0, []).append(member)
    groups = [same[at : at + limit] for same in by_epoch.values() for at in range(0, len(same), limit)]
    return [
        (group, FileCheckpointer(checkpoints, [paths[m] for m in group], [entry for m in group if (entry := saved[m])]))
        for group in groups
    ]
