"""One worker of a study in this process: its device, its entry in the ledger, its trainer and its checkpoints."""

import json
import logging
import os
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
from hpo.worker.trainer import Trainer
from hpo.worker.weights import from_environment


def work(
    study: Study,
    ledger: Ledger,
    device: str = "auto",
    population: int | None = None,
    threads: int = 1,
    on_event: Callable[[str, dict[str, Any]], None] | None = None,
    live_curves: bool = True,
) -> None:
    """Runs a worker in this process until the study has no work left.

    Args:
        population: the largest number of models trained at once; by default what suits the network and the device.
        threads: CPU threads; the last digits of results may depend on their number.
        on_event: called with each event of `run_worker`.
        live_curves: whether to write each run's score by epoch to Optuna.

    Raises:
        Stopped: a signal arrived; the leased trials and reruns were released.
    """
    group = join(device)
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
        )


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
