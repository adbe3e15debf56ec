"""The summary of a study in Optuna's dashboard: its contents, when it is written, and notes that a person edited."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import plotly.graph_objects as go
import pytest
import shown_study
from optuna.storages import RDBStorage
from storages import KINDS

from hpo import api
from hpo.dashboard import study_note
from hpo.dashboard.refresher import Refresher
from hpo.dashboard.study_note import refresh
from hpo.report import read_record
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger
from hpo.storage.optuna import notes
from hpo.storage.optuna.mirror import Mirror
from hpo.storage.optuna.studies import delete_study, open_storage

NAME = "shown/report"
BOTH = pytest.mark.parametrize("ledger", KINDS, indirect=True)


@pytest.fixture
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A study without results; in SQLite, or in both databases where a test is marked with BOTH."""
    server = request.getfixturevalue("postgresql") if getattr(request, "param", "") == "postgresql" else None
    url = server.create() if server else f"sqlite:///{tmp_path}/t.db"
    engine = connect(url)
    yield shown_study.make(engine, trials=3, seeds=3)
    engine.dispose()
    if server:
        server.drop(url)


@pytest.fixture
def storage(ledger: Ledger) -> Iterator[RDBStorage]:
    opened = open_storage(ledger.engine)
    yield opened
    opened.remove_session()
    opened.engine.dispose()


@pytest.fixture
def summaries(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The records that a summary was made of."""
    records: list[Any] = []
    summarise = study_note.summarise
    monkeypatch.setattr(study_note, "summarise", lambda record: records.append(record) or summarise(record))
    return records


def study(storage: RDBStorage) -> optuna.Study:
    return optuna.load_study(study_name=NAME, storage=storage)


def attributes(storage: RDBStorage, study: optuna.Study) -> dict[str, Any]:
    return storage.get_study_system_attrs(study._study_id)


def note(storage: RDBStorage) -> str:
    """As the dashboard reads it."""
    return optuna_dashboard._note.get_note(study(storage))


def plots(storage: RDBStorage) -> dict[str, Any]:
    """As the dashboard reads them; the text of a plot without data is empty."""
    actual = optuna_dashboard._custom_plot_data.get_plotly_graph_objects(attributes(storage, study(storage)))
    return {name: text and json.loads(text) for name, text in actual.items()}


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@BOTH
def test_a_finished_study_is_summarised(ledger: Ledger, storage: RDBStorage) -> None:
    assert refresh(ledger)
    assert "0 of 6 trials and 0 of 6 reruns" in note(storage) and plots(storage) == {}
    assert "| AdamW | 0 of 3 | – | – |" in note(storage) and "T1" not in note(storage)
    shown_study.finish(ledger)
    assert refresh(ledger, pause=0.0)
    text = note(storage)
    assert "GNVR against AdamW: " in text and "6 of 6 trials and 6 of 6 reruns" in text
    assert "| against AdamW | n |" in text and "| AdamW | 3 |" in text and "(/reports/shown/)" in text
    actual = plots(storage)
    assert sorted(actual) == [f"hpo-figure-{number}" for number in (1, 2, 3, 4)]
    for number, (_, plot) in enumerate(sorted(actual.items()), 1):
        assert plot["data"] and plot["layout"]["title"]["text"].startswith(f"Figure {number}. ")
        assert "width" not in plot["layout"]
    assert study(storage).trials == [] and study(storage).metric_names == ["test_accuracy"]


def _change(storage: RDBStorage, study: optuna.Study, change: notes.Change) -> None:
    notes.change(storage.engine, study._study_id, change)


def _lengths(attributes: dict[str, Any]) -> dict[str, int]:
    """The lengths of a note's parts; optuna-dashboard empties parts that are left over, hpo removes them."""
    return {key: len(value) for key, value in attributes.items() if key.startswith(notes.TEXT_KEY) and value}


@BOTH
def test_it_is_stored_as_optuna_dashboard_stores_it(storage: RDBStorage) -> None:
    text, figure = "λ|" * 3000, go.Figure(go.Scatter(x=list(range(900)), y=list(range(900))))
    theirs, ours = (optuna.create_study(study_name=name, storage=storage) for name in ("theirs", "ours"))
    drawing = json.loads(figure.to_json())
    for content in (text, "short", text * 2):
        optuna_dashboard.save_note(theirs, content)
        _change(storage, ours, lambda stored, _, text=content: notes.with_note(stored, text))
        optuna_dashboard.save_plotly_graph_object(theirs, figure, graph_object_id="f:1.a")
        _change(storage, ours, lambda stored, _: notes.with_plot(stored, "f:1.a", drawing))
        left, right = (attributes(storage, study) for study in (theirs, ours))
        assert notes.note(left) == notes.note(right) == content
        assert _lengths(left) == _lengths(right)
        assert left[notes.VERSION_KEY] == right[notes.VERSION_KEY]
        read = optuna_dashboard._custom_plot_data.get_plotly_graph_objects(right)
        assert {name: json.loads(plot) for name, plot in read.items()} == {"f:1.a": drawing}
    _change(storage, ours, lambda stored, _: notes.with_plot(stored, "f:1.a", None))
    assert "f:1.a" not in json.dumps(attributes(storage, ours))


def test_it_is_written_after_a_pause_and_only_with_new_results(
    ledger: Ledger, storage: RDBStorage, summaries: list[Any]
) -> None:
    shown_study.finish(ledger, runs=2)
    assert refresh(ledger) and refresh(ledger) and len(summaries) == 1
    version = attributes(storage, study(storage))[notes.VERSION_KEY]
    ledger.lease("someone", 1)
    assert refresh(ledger, pause=0.0) and len(summaries) == 1, "a lease is no result"
    shown_study.finish(ledger, runs=1)
    assert not refresh(ledger) and len(summaries) == 1, "the pause is not over"
    assert refresh(ledger, pause=0.0) and len(summaries) == 2 and "3 of 6 trials" in note(storage)
    assert attributes(storage, study(storage))[notes.VERSION_KEY] == version + 1


@BOTH
def test_one_of_several_processes_writes_it(ledger: Ledger, summaries: list[Any]) -> None:
    shown_study.finish(ledger)
    refresh(ledger)
    summaries.clear()
    ledger = shown_study.make(ledger.engine, trials=4, seeds=3)
    study_note._change(
        ledger, lambda stored, _: {study_note.KEY: {**stored[study_note.KEY], "time": 0}}
    )  # a pause later
    threads = [threading.Thread(target=refresh, args=(ledger,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(summaries) == 1


def test_a_note_that_a_person_edited_stays(ledger: Ledger, storage: RDBStorage) -> None:
    Mirror(ledger).report_study()
    for text in ("before the first summary", "my own words"):
        optuna_dashboard.save_note(study(storage), text)
        refresh(ledger, pause=0.0)
        assert note(storage) == text
    shown_study.finish(ledger)
    assert refresh(ledger, pause=0.0)
    assert note(storage) == "my own words" and len(plots(storage)) == 4
    study_note.publish(ledger, read_record(ledger))
    assert note(storage) == "my own words"
    optuna_dashboard.save_note(study(storage), "")
    study_note.publish(ledger, read_record(ledger))
    assert "6 of 6 reruns" in note(storage), "an emptied note is written again"


def test_the_report_writes_it_and_does_not_fail_for_it(
    ledger: Ledger,
    storage: RDBStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shown_study.finish(ledger)
    api.report(ledger, tmp_path)
    assert "6 of 6 reruns" in note(storage)
    monkeypatch.setattr(Mirror, "report_study", lambda _: 1 / 0)
    assert api.report(ledger, tmp_path).is_file()
    assert "shown" in caplog.text


def test_a_deleted_summary_is_written_again(ledger: Ledger, storage: RDBStorage) -> None:
    refresh(ledger)
    storage.delete_study(study(storage)._study_id)
    shown_study.finish(ledger, runs=1)
    assert refresh(ledger)
    assert "1 of 6 trials" in note(storage)


def test_it_is_deleted_with_its_study(ledger: Ledger, storage: RDBStorage) -> None:
    shown_study.finish(ledger)
    refresh(ledger)
    ledger.delete()
    assert refresh(shown_study.make(ledger.engine, trials=2, seeds=2))
    assert "0 of 4 trials" in note(storage) and plots(storage) == {}
    delete_study(ledger.engine, "shown")
    assert storage.get_all_studies() == []


def test_a_thread_keeps_all_summaries_up_to_date(
    ledger: Ledger, storage: RDBStorage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.dashboard.refresher.INTERVAL", 0.01)
    refresh(shown_study.make(ledger.engine, "other", 2, 2))
    real = study_note.refresh

    def broken(study: Ledger) -> bool:
        if study.study == "other":
            raise ValueError("numbers that\nmake no sense")
        return real(study, pause=0.0)

    monkeypatch.setattr("hpo.dashboard.refresher.refresh", broken)
    refresher = Refresher(storage.engine, ledger.engine)
    refresher.start()
    try:
        wait_until(lambda: NAME in [entry.study_name for entry in storage.get_all_studies()])
        shown_study.finish(ledger)
        wait_until(lambda: "6 of 6 reruns" in note(storage))
    finally:
        refresher.stop()
    (line,) = capsys.readouterr().err.splitlines()  # once, although every check fails
    assert "other" in line and "(ValueError: numbers that)" in line


def test_a_late_mirror_shows_the_device_of_the_training(ledger: Ledger, storage: RDBStorage) -> None:
    shown_study.finish(ledger)
    Mirror(ledger, device="another device").repair()
    trials = optuna.load_study(study_name="shown/GNVR/rerun", storage=storage).trials
    assert [trial.user_attrs["device"] for trial in trials] == ["a test's device"] * 3
    assert sorted(trial.user_attrs["seed"] for trial in trials) == [1000, 1001, 1002]
