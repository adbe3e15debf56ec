"""`hpo doctor`: finds what would fail before a study runs, and changes nothing."""

from pathlib import Path

from hpo.cli.doctor.check import Check, as_text, guarded
from hpo.cli.doctor.device import check_device
from hpo.cli.doctor.folders import check_folders
from hpo.cli.doctor.packages import check_packages
from hpo.cli.doctor.storage import check_storage

__all__ = ["Check", "as_text", "check_all"]


def check_all(url: str, device: str = "auto", reports: Path = Path("reports")) -> list[Check]:
    """Checks packages, device, database, clock and folders, in this order.

    Args:
        url: the database's URL. device: a value of `--device`. reports: the folder of reports.
    """
    checks = {
        "packages": check_packages,
        "device": lambda: check_device(device),
        "storage": lambda: check_storage(url),
        "folders": lambda: check_folders(url, reports),
    }
    return [result for name, check in checks.items() for result in guarded(name, check)]
