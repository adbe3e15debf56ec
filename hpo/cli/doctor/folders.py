"""The folders that hpo writes to: permission and free space."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hpo.cli.doctor.check import Check, State
from hpo.errors import HpoError
from hpo.storage.url import LOCAL, file, file_system, read

WARNING_SPACE = 10**9  # bytes: a study with its report takes some 10 MB, both CIFAR archives 330 MB
FAILURE_SPACE = 10**8
CHECKPOINTS = "HPO_CHECKPOINTS"


def check_folders(url: str, reports: Path) -> list[Check]:
    """The folders of the database (if it is a file), the reports, the data sets, and checkpoints if set."""
    checks = []
    on_server = False
    with suppress(HpoError):  # an error that the check of the storage shows
        address = read(url)
        on_server = address.get_backend_name() != "sqlite"
        if not on_server:
            checks.append(check_folder("database", file(address).parent, "use another --storage"))
    checks.append(check_folder("reports", reports, "use another --reports"))
    with suppress(ImportError):  # PyTorch is missing, which the check of the device shows
        from hpo.data.cache import data_folder

        try:
            folder = data_folder(None)
        except HpoError as error:  # there is no home folder
            checks.append(Check("data sets", "fails", str(error)))
        else:
            checks.append(check_folder("data sets", folder, "set HPO_DATA or HPO_CACHE to another folder"))
    if shared := os.environ.get(CHECKPOINTS):
        checks.append(_check_checkpoints(Path(shared), on_server))
    return checks


def check_folder(name: str, folder: Path, advice: str) -> Check:
    """Whether files can be written to a folder or the folder can be created, and the free space."""
    folder = folder.resolve()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"hpo")
            probe.flush()
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Check(name, "fails", f"{folder} is not writable ({error.strerror or error}); {advice}")
    if free < WARNING_SPACE:
        state: State = "fails" if free < FAILURE_SPACE else "warning"
        return Check(name, state, f"{folder} has only {free / 1e6:.0f} MB of free space; free some, or {advice}")
    return Check(name, "ok", f"{folder} is writable, {free / 1e9:.0f} GB free")


def _check_checkpoints(folder: Path, on_server: bool) -> Check:
    """The folder of checkpoints, which workers on other machines need as well if the database is on a server."""
    check = check_folder("checkpoints", folder, f"set {CHECKPOINTS} to another folder")
    kind = file_system(folder.resolve())
    if check.state == "ok" and on_server and kind in LOCAL:
        text = f"{folder} is on a local disk ({kind}), so that workers on other machines cannot resume from its files"
        return Check("checkpoints", "warning", f"{text}; use a shared folder if there are such workers")
    return check
