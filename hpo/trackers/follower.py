"""Follows a study in its database and passes what its workers have recorded to an experiment tracker."""

from collections.abc import Callable

from hpo.storage.ledger import Ledger
from hpo.storage.optuna.tracked_runs import TrackedRun, read_runs
from hpo.trackers import Tracker

INTERVAL = 3.0  # seconds between two reads of the database
MAX_PAUSE = 60.0  # seconds between two tries while the tracker fails
MAX_FAILURES = 3  # runs that may fail before the others wait for the next try


class Follower:
    """Logs each run once; one that is leased again, after its worker was lost or stopped, begins anew."""

    def __init__(self, ledger: Ledger, tracker: Tracker, live: bool = True, worker: str = "") -> None:
        """live: whether to log runs in training. worker: see `read_runs`."""
        self.ledger, self.tracker, self.live, self.worker = ledger, tracker, live, worker
        self.logged = 0  # runs that are finished and that this process has logged
        self._finished = tracker.finished()  # keys
        self._known: set[int] = set()  # slots of finished runs that are logged
        self._open: dict[str, TrackedRun] = {}  # in the tracker, by name
        self._logged: dict[str, set[tuple[int, str]]] = {}  # name → (epoch, metric)

    def follow(self, over: Callable[[float], bool], warn: Callable[[str], None]) -> bool:
        """Logs until nothing can come any more.

        Args:
            over: waits for so many seconds, or less if the workers have ended; whether they have.
            warn: called once if the tracker or the database fails. It is tried again, with what it has missed.

        Returns:
            Whether everything is logged.
        """
        pause, ended, warned = INTERVAL, False, False
        while True:
            done = complete = False
            try:
                done = self.ledger.state() == "done"
                self.log_all()
                pause, complete = INTERVAL, True
            except Exception as error:  # of any kind: it is another package's
                pause = min(2 * pause, MAX_PAUSE)
                if not warned:
                    warn(f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}")
                warned = True
            if ended or (done and complete):
                return complete
            ended = over(pause)

    def log_all(self) -> None:
        """Logs what has been recorded since the last call.

        Raises:
            Exception: the first that logging a run has raised. The run begins anew at the next call.
        """
        errors: list[Exception] = []
        while not errors:
            runs = read_runs(self.ledger, self._known, self.worker)
            for run in runs:
                try:
                    self._log(run)
                except Exception as error:
                    self._open.pop(run.name, None)
                    errors.append(error)
                    if len(errors) >= MAX_FAILURES:
                        break
            if not any(run.finished for run in runs):
                break
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Ends the runs that are still in training."""
        for run in self._open.values():
            self.tracker.finish(run, {})
        self._open.clear()

    def _log(self, run: TrackedRun) -> None:
        if run.key not in self._finished and (run.finished or self.live):
            opened = self._open.get(run.name)
            if opened is None or opened.attempt != run.attempt:
                self.tracker.start(run)
                self._logged[run.name] = set()
            self._open[run.name] = run
            self._log_epochs(run, self._logged[run.name])
            if run.finished:
                self.tracker.finish(run, run.final)
                self._finished.add(run.key)
                self.logged += 1
                del self._open[run.name], self._logged[run.name]
        if run.finished:
            self._known.add(run.slot)

    def _log_epochs(self, run: TrackedRun, logged: set[tuple[int, str]]) -> None:
        by_epoch = {
            epoch: {metric: value for metric, value in values.items() if (epoch, metric) not in logged}
            for epoch, values in run.epochs.items()
        }
        new = {epoch: values for epoch, values in by_epoch.items() if values}
        if new:
            self.tracker.log(run, new)
            logged.update((epoch, metric) for epoch, values in new.items() for metric in values)
