"""A study in training as a browser shows it: learning curves in optuna-dashboard, and its progress on /reports/."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import shown_study
from browser import Browser, Tab
from fork_server import ForkServer
from served_dashboard import served, until
from storage_study import known_for_long

from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Work, new_worker_id
from hpo.storage.optuna.mirror import Mirror
from hpo.worker.live_progress import Epoch, LiveProgress


def begin(ledger: Ledger, worker_id: str, seconds: float) -> Work:
    ledger.register(worker_id, "cpu")
    work = ledger.lease(worker_id, 2, seconds)
    assert work is not None
    settings = [shown_study._setting(work.configuration, slot.slot) for slot in work.slots if slot.setting is None]
    return Mirror(ledger).begin(worker_id, ledger.assign(worker_id, work, settings))


def report(ledger: Ledger, worker_id: str, work: Work, *scores: float) -> None:
    curves = {"validation_accuracy": list(scores), "train_loss": [0.53213] * len(scores)}
    results: Any = {slot.id: [SimpleNamespace(curves=curves, diverged_epoch=None)] for slot in work.slots}
    live = LiveProgress(ledger, worker_id)
    live.note(Epoch(work, len(scores), 6, results, True))
    live.report()


def drawn(tab: Tab) -> Any:
    """The values of the traces of the plot of intermediate values."""
    return tab.page.evaluate(
        "() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => plot.data.map(trace => trace.y))"
        ".find(traces => traces.length == 2 && traces.every(y => y && y.length && y[0] == 0.25)) || null"
    )


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_learning_curves_grow_and_those_of_a_lost_worker_are_replaced(
    browser: Browser, fork_server: ForkServer, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgresql").create() if kind == "postgresql" else f"sqlite:///{tmp_path}/t.db"
    ledger, lost, other = known_for_long(shown_study.make(connect(url))), new_worker_id(), new_worker_id()
    work = begin(ledger, lost, seconds=-1.0)
    report(ledger, lost, work, 0.25, 0.5)
    with served(fork_server, url, tmp_path) as dashboard, browser.tab(height=1200) as tab:
        tab.open(f"{dashboard.address}/dashboard")
        tab.page.click("text=shown/AdamW/tune")

        def shows(*scores: float) -> Callable[[], Any]:
            def look() -> bool:
                tab.page.reload()
                tab.page.wait_for_timeout(1000)
                return bool(drawn(tab) == [list(scores)] * 2)

            return look

        until(shows(0.25, 0.5))
        report(ledger, lost, work, 0.25, 0.5, 0.75)
        until(shows(0.25, 0.5, 0.75))
        work = begin(ledger, other, seconds=60.0)
        report(ledger, other, work, 0.25, 0.375)
        until(shows(0.25, 0.375))
        for width in (400, 1280):
            for dark in (False, True):
                with browser.tab(width=width, dark=dark) as page:
                    page.open(f"{dashboard.address}/reports/")
                    assert "AdamW: 2 trials, epoch 2 of 6, loss 0.5321, validation accuracy 0.375" in page.text()
                    box = page.page.get_by_text("AdamW: 2 trials, epoch 2 of 6").bounding_box()
                    assert box is not None and box["x"] + box["width"] <= width
        ledger.finish(other, shown_study.outcomes(work))
        Mirror(ledger).finish(work, shown_study.outcomes(work))
        with browser.tab() as page:
            page.open(f"{dashboard.address}/reports/")
            assert "Best so far: validation accuracy 0." in page.text()
    ledger.engine.dispose()
