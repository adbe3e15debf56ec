"""The summary of a study in Optuna's dashboard: what it says, when it is written, and whose words it leaves alone."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import plotly.graph_objects as go
import pytest
import shown_study
from optuna.storages import RDBStorage

from hpo import api
from hpo.dashboard import study_note
from hpo.dashboard.refresher import Refresher
from hpo.dashboard.study_note import refresh
from hpo.report import read_record
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger
from hpo.storage.optuna import notes, tables
from hpo.storage.optuna.mirror import Mirror, clear, open_storage

NAME = "shown/report"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    engine = connect(url)
    yield shown_study.make(engine, trials=3, seeds=3)
    engine.dispose()


@pytest.fixture
def storage(ledger: Ledger) -> Iterator[RDBStorage]:
    made = open_storage(ledger.engine)
    yield made
    made.remove_session()
    made.engine.dispose()


def study(storage: RDBStorage) -> optuna.Study:
    return optuna.load_study(study_name=NAME, storage=storage)


def note(storage: RDBStorage) -> str:
    """As the dashboard reads it."""
    return optuna_dashboard._note.get_note(study(storage))


def plots(storage: RDBStorage) -> dict[str, Any]:
    """As the dashboard reads them; the text of a plot without data is empty."""
    attributes = storage.get_study_system_attrs(study(storage)._study_id)
    found = optuna_dashboard._custom_plot_data.get_plotly_graph_objects(attributes)
    return {name: text and json.loads(text) for name, text in found.items()}


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_finished_study_is_summed_up(ledger: Ledger, storage: RDBStorage) -> None:
    shown_study.finish(ledger)
    assert refresh(ledger)
    text = note(storage)
    assert "GNVR against AdamW: " in text and "6 of 6 trials and 6 of 6 reruns" in text
    assert "| against AdamW | n |" in text and "| AdamW | 3 |" in text and "(/reports/shown/)" in text
    found = plots(storage)
    assert sorted(found) == [f"hpo-figure-{number}" for number in (1, 2, 3, 4)]
    for number, (_, plot) in enumerate(sorted(found.items()), 1):
        assert plot["data"] and plot["layout"]["title"]["text"].startswith(f"Figure {number}. ")
        assert "width" not in plot["layout"]
    assert study(storage).trials == [] and study(storage).metric_names == ["test_accuracy"]


def test_what_is_not_there_yet_is_not_drawn(ledger: Ledger, storage: RDBStorage) -> None:
    assert refresh(ledger)
    assert "0 of 6 trials and 0 of 6 reruns" in note(storage) and plots(storage) == {}


def test_it_is_written_as_optuna_dashboard_writes_it(storage: RDBStorage) -> None:
    text, figure = "λ|" * 3000, go.Figure(go.Scatter(x=list(range(900)), y=list(range(900))))
    theirs, mine = (optuna.create_study(study_name=name, storage=storage) for name in ("theirs", "mine"))
    for content in (text, "short", text * 2):
        optuna_dashboard.save_note(theirs, content)
        _change(storage, mine, lambda found, _, text=content: notes.with_note(found, text))
        optuna_dashboard.save_plotly_graph_object(theirs, figure, graph_object_id="f:1.a")
        drawing = json.loads(figure.to_json())
        _change(storage, mine, lambda found, _, drawn=drawing: notes.with_plot(found, "f:1.a", drawn))
        left, right = (storage.get_study_system_attrs(study._study_id) for study in (theirs, mine))
        assert notes.note(left) == notes.note(right) == content
        assert {key: len(value) for key, value in _texts(left)} == {key: len(value) for key, value in _texts(right)}
        assert left[notes.VERSION_KEY] == right[notes.VERSION_KEY]
        read = optuna_dashboard._custom_plot_data.get_plotly_graph_objects(right)
        assert {name: json.loads(plot) for name, plot in read.items()} == {"f:1.a": drawing}
    _change(storage, mine, lambda found, _: notes.with_plot(found, "f:1.a", None))
    assert "f:1.a" not in json.dumps(storage.get_study_system_attrs(mine._study_id))


def _texts(attributes: dict[str, Any]) -> list[tuple[str, str]]:
    """The parts of a text in the order of their keys; theirs blanks those that are left over, mine takes them away."""
    return [(key, value) for key, value in attributes.items() if key.startswith(notes.TEXT_KEY) and value]


def _change(storage: RDBStorage, study: optuna.Study, how: notes.Change) -> None:
    notes.change(storage.engine, study._study_id, how, lambda: storage)


def test_it_is_written_once_in_a_while_and_only_if_something_is_new(
    ledger: Ledger, storage: RDBStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    summarise = study_note.summarise
    monkeypatch.setattr(study_note, "summarise", lambda record: made.append(1) or summarise(record))
    shown_study.finish(ledger, runs=2)
    assert refresh(ledger) and refresh(ledger) and len(made) == 1
    version = storage.get_study_system_attrs(study(storage)._study_id)[notes.VERSION_KEY]
    ledger.lease("someone", 1)
    assert refresh(ledger, pause=0.0) and len(made) == 1, "work that has begun is nothing new"
    shown_study.finish(ledger, runs=1)
    assert not refresh(ledger) and len(made) == 1, "the pause is not over"
    assert refresh(ledger, pause=0.0) and len(made) == 2 and "3 of 6 trials" in note(storage)
    assert storage.get_study_system_attrs(study(storage)._study_id)[notes.VERSION_KEY] == version + 1


def test_of_several_one_writes_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    summarise = study_note.summarise
    monkeypatch.setattr(study_note, "summarise", lambda record: made.append(1) or summarise(record))
    shown_study.finish(ledger)
    refresh(ledger)
    made.clear()
    ledger = shown_study.make(ledger.engine, trials=4, seeds=3)
    with closing(Mirror(ledger)) as mirror:  # the pause is over
        study_note._change(mirror, lambda found, _: {study_note.KEY: {**found[study_note.KEY], "time": 0}})
    threads = [threading.Thread(target=refresh, args=(ledger,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_what_a_person_wrote_stays(ledger: Ledger, storage: RDBStorage) -> None:
    refresh(ledger)
    optuna_dashboard.save_note(study(storage), "my own words")
    shown_study.finish(ledger)
    assert refresh(ledger, pause=0.0)
    assert note(storage) == "my own words" and len(plots(storage)) == 4
    study_note.publish(ledger, read_record(ledger))
    assert note(storage) == "my own words"
    optuna_dashboard.save_note(study(storage), "")
    study_note.publish(ledger, read_record(ledger))
    assert "6 of 6 reruns" in note(storage), "an emptied note is asked for again"


def test_a_note_that_was_there_first_stays(ledger: Ledger, storage: RDBStorage) -> None:
    with closing(Mirror(ledger)) as mirror:
        mirror.report_study()
    optuna_dashboard.save_note(study(storage), "here before")
    refresh(ledger)
    assert note(storage) == "here before"


def test_the_report_writes_it(ledger: Ledger, storage: RDBStorage, tmp_path: Path) -> None:
    shown_study.finish(ledger)
    api.report(ledger, tmp_path)
    assert "6 of 6 reruns" in note(storage)


def test_a_report_does_not_fail_for_it(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Mirror, "report_study", lambda _: 1 / 0)
    assert api.report(ledger, tmp_path).is_file()
    assert "keeps its old summary of shown" in caplog.text


def test_tables_of_another_version_are_left_to_optuna(
    ledger: Ledger, storage: RDBStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "VERSION", "another")
    shown_study.finish(ledger)
    assert refresh(ledger)
    assert "6 of 6 reruns" in note(storage) and len(plots(storage)) == 4


def test_a_deleted_summary_comes_back_with_the_next_run(ledger: Ledger, storage: RDBStorage) -> None:
    refresh(ledger)
    storage.delete_study(study(storage)._study_id)
    shown_study.finish(ledger, runs=1)
    assert refresh(ledger)
    assert "1 of 6 trials" in note(storage)


def test_it_goes_with_its_study(ledger: Ledger, storage: RDBStorage) -> None:
    shown_study.finish(ledger)
    refresh(ledger)
    ledger.delete()
    again = shown_study.make(ledger.engine, trials=2, seeds=2)
    assert refresh(again)
    assert "0 of 4 trials" in note(storage) and plots(storage) == {}
    clear(ledger.engine, "shown")
    assert [found.study_name for found in storage.get_all_studies()] == []


def test_a_thread_keeps_all_studies_up_to_date(
    ledger: Ledger, storage: RDBStorage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.dashboard.refresher.LOOK", 0.01)
    other = shown_study.make(ledger.engine, "other", 2, 2)
    refresh(other)
    real = study_note.refresh

    def broken(study: Ledger) -> bool:
        if study.study == "other":
            raise ValueError("numbers that\nmake no sense")
        return real(study, pause=0.0)

    monkeypatch.setattr("hpo.dashboard.refresher.refresh", broken)
    refresher = Refresher(storage.engine, ledger.engine)
    refresher.start()
    try:
        until(lambda: NAME in [found.study_name for found in storage.get_all_studies()])
        shown_study.finish(ledger)
        until(lambda: "6 of 6 reruns" in note(storage))
    finally:
        refresher.stop()
    told = capsys.readouterr().err.splitlines()
    assert told == ["hpo: the summary of other was not kept up to date (ValueError: numbers that); trying again"]


def test_a_trial_that_is_shown_late_has_the_device_that_it_was_trained_on(ledger: Ledger, storage: RDBStorage) -> None:
    shown_study.finish(ledger)
    Mirror(ledger, device="another device").repair()
    trials = optuna.load_study(study_name="shown/GNVR/rerun", storage=storage).trials
    assert [trial.user_attrs["device"] for trial in trials] == ["a test's device"] * 3
    assert sorted(trial.user_attrs["seed"] for trial in trials) == [1000, 1001, 1002]
