"""`hpo bench scale` samples as a worker does, and leaves nothing behind."""

from pathlib import Path

from hpo.bench import scale
from hpo.storage.database import connect
from hpo.storage.ledger import names


def test_every_step_is_timed_and_the_study_is_deleted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'scale.db'}"
    rows: list[scale.Row] = []
    result = scale.measure(url, [120, 150], 2, rows.append)
    assert [row["trials"] for row in rows] == [120, 150] and result["rows"] == rows
    assert all(row[step] > 0 for row in rows for step in ("lease", "first", "sample", "store"))
    engine = connect(url)
    assert names(engine) == []
    engine.dispose()
