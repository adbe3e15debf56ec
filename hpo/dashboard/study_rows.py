"""The rows of the dashboard's list of studies: verdict, progress, date, and the Optuna studies that show each one."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from optuna.storages import RDBStorage

from hpo.dashboard.study_note import KEY
from hpo.errors import UsageError
from hpo.storage.ledger import Ledger, load_study, names
from hpo.storage.ledger.progress import lines, progress
from hpo.storage.optuna.studies import report_name, study_name
from hpo.tasks import metric_words
from hpo.trials import describe_state


class OptunaGroup(NamedTuple):
    """The Optuna studies of a configuration: words for each, and its id."""

    configuration: str
    links: Sequence[tuple[str, int]]


class StudyRow(NamedTuple):
    """A row of the list of studies.

    Attributes:
        state: in words. trials, reruns: "done/planned". share: of trials and reruns that are done.
        summary: the id of the Optuna study with the summary, if there is one yet.
        finished: whether nothing more will change.
        best: the best score so far, in words. training: what its workers train, how fast, and the time left.
        verdicts: one for each planned comparison, in words. last: when the last run ended, in Unix seconds.
    """

    name: str
    state: str
    trials: str
    reruns: str
    summary: int | None
    finished: bool
    best: str = ""
    training: Sequence[str] = ()
    title: str = ""
    verdicts: Sequence[str] = ()
    last: float | None = None
    share: float = 0.0
    optuna: Sequence[OptunaGroup] = ()

    @property
    def date(self) -> str:
        """When the last run ended, in this machine's time zone."""
        return datetime.fromtimestamp(self.last or 0.0).astimezone().strftime("%Y-%m-%d %H:%M %Z")


def study_rows(storage: RDBStorage) -> list[StudyRow]:
    """Every study in the database; those with the newest results come first."""
    rows, ids = [], optuna_ids(storage)
    for name in names(storage.engine):
        with suppress(UsageError):  # deleted a moment ago
            rows.append(_row(storage, load_study(storage.engine, name), ids))
    return sorted(rows, key=lambda row: row.last or float("inf"), reverse=True)


def optuna_names(ledger: Ledger) -> list[str]:
    """The Optuna studies that show a study, in the order in which they are read."""
    shown = [name for configuration in ledger.configurations for _, name in _of_configuration(ledger, configuration)]
    return [report_name(ledger.study), *shown]


def optuna_ids(storage: RDBStorage) -> dict[str, int]:
    """The id of every Optuna study in the database, by name."""
    return {study.study_name: study._study_id for study in storage.get_all_studies()}


def _of_configuration(ledger: Ledger, configuration: str) -> list[tuple[str, str]]:
    """Words for each Optuna study of a configuration, and its name."""
    several, runs = ledger.planned["tuning_runs"] > 1, range(ledger.planned["tuning_runs"])
    return [
        (phase_words + (f" {run + 1}" if several else ""), study_name(ledger.study, configuration, phase, run))
        for phase, phase_words in (("tune", "tuning run" if several else "tuning"), ("rerun", "reruns"))
        for run in runs
    ]


def _row(storage: RDBStorage, ledger: Ledger, ids: Mapping[str, int]) -> StudyRow:
    by_name, state, workers = ledger.counts(), ledger.state(), ledger.activity().workers
    counts, summary = list(by_name.values()), ids.get(report_name(ledger.study))
    done, total = (
        [sum(entry[f"{phase}_{part}"] for entry in counts) for phase in ("trials", "reruns")]
        for part in ("done", "total")
    )
    trials, reruns = (f"{some}/{planned}" for some, planned in zip(done, total, strict=True))
    groups = [
        OptunaGroup(name, [(words, ids[shown]) for words, shown in _of_configuration(ledger, name) if shown in ids])
        for name in ledger.configurations
    ]
    return StudyRow(
        name=ledger.study,
        state=describe_state(state, sum(entry["failed"] for entry in counts)),
        trials=trials,
        reruns=reruns,
        summary=summary,
        finished=state == "done",
        best=_best(ledger, counts),
        training=[] if state == "done" else lines(progress(ledger.definition, by_name, workers)),
        title=ledger.text.get("title") or "",
        verdicts=_verdicts(storage, summary),
        last=ledger.last_finished(),
        share=sum(done) / max(1, sum(total)),
        optuna=[group for group in groups if group.links],
    )


def _verdicts(storage: RDBStorage, summary: int | None) -> list[str]:
    """Those of the study's newest summary."""
    if summary is None:
        return []
    with suppress(KeyError):  # deleted a moment ago
        return list((storage.get_study_system_attrs(summary).get(KEY) or {}).get("verdicts", []))
    return []


def _best(ledger: Ledger, counts: Sequence[Mapping[str, Any]]) -> str:
    """The best score of all configurations so far; empty without any."""
    best = max if ledger.direction == "maximize" else min
    value = best((entry["best"] for entry in counts if entry["best"] is not None), default=None)
    return "" if value is None else f"{metric_words(ledger.definition['score'])} {value:.4g}"
