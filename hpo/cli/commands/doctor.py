"""`hpo doctor`: checks before a study runs."""

import json
from pathlib import Path

from hpo.cli.options import AsJson, Device, Reports, Storage, app
from hpo.output import write_line


@app.command()
def doctor(
    storage: Storage = None, device: Device = "auto", reports: Reports = Path("reports"), as_json: AsJson = False
) -> None:
    """Check database, clock, device, disks and packages; exit code 1 if a check fails."""
    from hpo import api
    from hpo.cli.doctor import as_text, check_all

    checks = check_all(api.storage_url(storage), device, reports)
    write_line(json.dumps([check._asdict() for check in checks], indent=1) if as_json else as_text(checks))
    if any(check.state == "fails" for check in checks):
        raise SystemExit(1)
