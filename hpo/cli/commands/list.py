"""`hpo list`: the studies here and the built-in parts."""

import json

from hpo.cli.options import AsJson, app
from hpo.output import write_line


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List studies and built-in regularizers, optimizers, networks, data sets and schedules."""
    from hpo.cli.terminal import catalogue

    parts = catalogue.catalogue()
    write_line(json.dumps(parts, indent=1) if as_json else catalogue.catalogue_text(parts))
