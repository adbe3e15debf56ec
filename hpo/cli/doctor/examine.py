"""All checks, in the order in which they are told."""

from pathlib import Path

from hpo.cli.doctor.check import Check, guarded
from hpo.cli.doctor.device import check_device
from hpo.cli.doctor.folders import check_folders
from hpo.cli.doctor.packages import check_packages
from hpo.cli.doctor.storage import check_storage


def examine(url: str, device: str = "auto", reports: Path = Path("reports")) -> list[Check]:
    """Looks at packages, device, database, clock and folders.

    Args:
        url: the database's. device: as `--device` names it. reports: the folder of reports.
    """
    looks = {
        "packages": check_packages,
        "device": lambda: check_device(device),
        "storage": lambda: check_storage(url),
        "folders": lambda: check_folders(url, reports),
    }
    return [check for name, look in looks.items() for check in guarded(name, look)]
