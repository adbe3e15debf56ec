"""Folders that hpo writes to: whether it may, and how much room is left."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hpo.cli.doctor.check import Check, State
from hpo.errors import HpoError
from hpo.storage.url import NETWORK, file, file_system, read

LITTLE = 10**9  # bytes: a study with its report takes some tens of MB, both CIFAR archives 330 MB
NOTHING = 10**8
CHECKPOINTS = "HPO_CHECKPOINTS"


def check_folders(url: str, reports: Path) -> list[Check]:
    """Those of the database (if it is a file), the reports, the data sets, and of checkpoints where they are set."""
    checks = []
    shared = False
    with suppress(HpoError):  # told by the check of the storage
        address = read(url)
        shared = address.get_backend_name() != "sqlite"
        if not shared:
            checks.append(check_folder("database", file(address).parent, "give another --storage"))
    checks.append(check_folder("reports", reports, "give another --reports"))
    with suppress(ImportError):  # PyTorch is missing: told by the check of the device
        from hpo.data.cache import data_folder

        checks.append(check_folder("data sets", data_folder(None), "set HPO_DATA or HPO_CACHE to another folder"))
    if chosen := os.environ.get(CHECKPOINTS):
        checks.append(_check_checkpoints(Path(chosen), shared))
    return checks


def check_folder(name: str, folder: Path, otherwise: str) -> Check:
    """Whether files can be made in a folder, or the folder itself, and how much room there is.

    Args:
        otherwise: what to do if it cannot be used.
    """
    there = folder = folder.resolve()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as probe:  # has no name, or loses it with the last line here
            probe.write(b"hpo")
            probe.flush()
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Check(name, "fails", f"{folder} cannot be written ({error.strerror or error}); {otherwise}")
    if free < LITTLE:
        state: State = "fails" if free < NOTHING else "warning"
        return Check(name, state, f"only {free / 1e6:.0f} MB are free for {folder}; make room, or {otherwise}")
    return Check(name, "ok", f"{folder} can be written, {free / 1e9:.0f} GB free")


def _check_checkpoints(folder: Path, shared: bool) -> Check:
    """The folder of checkpoints, which all workers should see where the database is one for several machines."""
    check = check_folder("checkpoints", folder, f"set {CHECKPOINTS} to another folder")
    kind = file_system(folder.resolve())
    if check.state == "ok" and shared and kind and kind not in NETWORK:
        text = (
            f"{folder} lies on a disk of this machine ({kind}), so that workers elsewhere cannot go on from its files"
        )
        return Check("checkpoints", "warning", f"{text}; share a folder if there are such workers")
    return check
