"""One worker of a study in this process: its device, its entry in the ledger, its trainer and its checkpoints."""

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from hpo.data import Source, identify
from hpo.storage.ledger import Ledger, TrialCurve, Work, new_worker_id
from hpo.study.fingerprint import fingerprint
from hpo.study.study import Study
from hpo.training import checkpoints
from hpo.training.devices import choose_device, device_name, environment, prepare_process
from hpo.worker.group import join
from hpo.worker.live_progress import LiveProgress
from hpo.worker.loop import run_worker
from hpo.worker.step_times import measure_step_times, populations_to_time
from hpo.worker.trainer import Trainer
from hpo.worker.weights import from_environment

log = logging.getLogger(__name__)

STEP_TIMES_LIMIT, STEP_TIMES_SHARE = 4.0, 0.005  # seconds, and of the worker's time, the larger of the two
STEP_TIMES_SECONDS = 0.05  # for one configuration


def work(
    study: Study,
    ledger: Ledger,
    device: str = "auto",
    population: int | None = None,
    threads: int = 1,
    on_event: Callable[[str, dict[str, Any]], None] | None = None,
    live_curves: bool = True,
    step_times: bool = True,
) -> None:
    """Runs a worker in this process until the study has no work left.

    Args:
        population: the largest number of models trained at once; by default what suits the network and the device.
        threads: CPU threads; the last digits of results may depend on their number.
        on_event: called with each event of `run_worker`.
        live_curves: whether to write each run's score by epoch to Optuna.
        step_times: whether the worker that finishes the study measures the time of the configurations' steps.

    Raises:
        Stopped: a signal arrived; the leased trials and reruns were released.
    """
    start, group = time.monotonic(), join(device)
    chosen = group.device if group else choose_device(device)
    prepare_process(threads, chosen)
    device_words = f"{group.share.count} × {device_name(chosen)}" if group else device_name(chosen)
    worker_id = new_worker_id()
    versions = environment()
    ledger.register(worker_id, device_words, versions, os.environ.get("HPO_LAUNCH", ""))

    def curves(work: Work) -> dict[int, list[TrialCurve]]:
        tuning_runs = {slot.tuning_run for slot in work.slots}
        return ledger.trial_curves(work.configuration, tuning_runs, work.slots[0].batch)

    def note_data(source: Source) -> None:
        ledger.note_data(worker_id, identify(source))

    def handle_event(kind: str, details: dict[str, Any]) -> None:
        if kind == "finished":
            stored = {outcome.id for outcome in details["outcomes"]}
            done = [slot for slot in details["work"].slots if slot.id in stored]
            trainer.delete_checkpoints(details["work"].with_slots(done))
            live.note(None)
        elif kind == "failed":
            live.note(None)
            trainer.delete_checkpoints(details["work"])
        if on_event:
            on_event(kind, details)

    folder = checkpoints.from_environment(json.dumps([ledger.digest, sorted(fingerprint(study).items())]))
    live = LiveProgress(ledger, worker_id, live_curves)
    provenance = {"study": ledger.study, "digest": ledger.digest, "environment": versions}
    weights = from_environment(ledger.study, provenance)
    trainer = Trainer(study, chosen, live.note, folder, population, curves, note_data, group, weights)

    def measure() -> None:
        if step_times and group is None and not trainer.source.is_streamed:
            _measure_step_times(ledger, trainer, max(STEP_TIMES_LIMIT, (time.monotonic() - start) * STEP_TIMES_SHARE))

    make_sampler = study.sampler if callable(study.sampler) else None
    settings = (ledger, trainer, worker_id, trainer.size, handle_event)
    # A GPU has one worker, and a population twice as large takes it hardly longer.
    populations = 1 if population or chosen.type == "cuda" else 2
    with group or nullcontext(), live:
        run_worker(
            *settings,
            device=device_words,
            make_sampler=make_sampler,
            live_curves=live_curves,
            populations=populations,
            on_done=measure,
        )


def _measure_step_times(ledger: Ledger, trainer: Trainer, limit: float) -> None:
    """Stores the time of the steps of the configurations that have reruns, unless it takes too long."""
    try:
        counts, chosen = ledger.counts(), ledger.chosen_settings()
        names = [name for name in ledger.configurations if name in chosen and counts[name]["reruns_done"]]
        if trainer.study.baseline not in names:
            return
        settings = {name: chosen[name] for name in names}  # one that cannot be trained must not prevent the others
        sizes = populations_to_time(trainer, settings, ledger.planned["seeds"])
        if measured := measure_step_times(trainer, settings, sizes, STEP_TIMES_SECONDS, limit):
            ledger.note_step_times(measured)
    except Exception as error:  # the study is finished, whatever happens here
        log.info("the time of a step was not measured: %s", error)


def follow(study: Study, device: str = "auto", threads: int = 1) -> None:
    """Trains with the worker whose group this process belongs to, until it ends.

    Raises:
        LostProcess: another process of the group has ended.
    """
    logging.getLogger("hpo").addHandler(logging.NullHandler())  # the leader prints the same warnings
    group = join(device)
    assert group is not None
    prepare_process(threads, group.device)
    with group:
        Trainer(study, group.device, group=group).follow()
