"""`hpo worker`: one worker of a study."""

import gc
import signal
from typing import Annotated

import typer

from hpo.cli.options import (
    AcceptChangedCode,
    Device,
    Epochs,
    KeepWeights,
    LiveCurves,
    Log,
    MaxTime,
    Name,
    PopulationSize,
    StepTimes,
    Storage,
    StudyName,
    app,
    set_weights_folder,
    whole_number,
)
from hpo.errors import HpoError
from hpo.output import write_line
from hpo.study.study_files import run_command


@app.command()
def worker(
    study: StudyName,
    storage: Storage = None,
    device: Device = "auto",
    name: Name = None,
    epochs: Epochs = None,
    population: PopulationSize = None,
    threads: Annotated[int, whole_number("CPU threads; the same for all workers of a study.")] = 1,
    max_time: MaxTime = None,
    live_curves: LiveCurves = True,
    step_times: StepTimes = True,
    log: Log = None,
    accept_changed_code: AcceptChangedCode = False,
    keep_weights: KeepWeights = False,
    messages: Annotated[bool, typer.Option("--messages", hidden=True)] = False,
    with_parent: Annotated[bool, typer.Option("--stop-with-parent", hidden=True)] = False,
    wait: Annotated[bool, typer.Option("--wait", hidden=True)] = False,
) -> None:
    """Run one worker of a study, alone or next to others, until no work is left. Writes no report."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until it leases, a signal ends it in the middle of any import
    if wait:
        from hpo.worker.early_start import wait_for_start

        device = wait_for_start()[-1]
    from hpo import api
    from hpo.cli.terminal.messages import Messenger, stop_reason
    from hpo.storage.url import redacted
    from hpo.study import loading
    from hpo.trackers import check_installed
    from hpo.trackers.process import following
    from hpo.worker.processes import is_follower, stop_with_parent
    from hpo.worker.signals import Stopped, stop_after
    from hpo.worker.slurm_job import let_preempted_job_be_requeued

    if is_follower():
        from hpo.worker.work import follow

        follow(api.with_overrides(loading.load(study, name), name, epochs), device, threads)
        return
    if messages or with_parent:
        stop_with_parent()
    if max_time:
        stop_after(max_time)
    if log:
        check_installed(log)
    if keep_weights:
        set_weights_folder()
    messenger = Messenger(as_json=messages)
    try:
        with messenger.warnings():
            definition = api.with_overrides(loading.load(study, name), name, epochs)
            command = run_command(study, {"--epochs": epochs, "--name": name})
            ledger = api.join_ledger(definition, api.storage_url(storage), accept_changed_code, command)
            for warning in ledger.warnings:
                messenger.send("warning", text=warning)
            if not messages:
                write_line(f"hpo: working on {ledger.study} in {redacted(api.storage_url(storage))}")
            from hpo.worker.work import work

            gc.freeze()  # else each search for reference cycles goes through all modules, and a signal waits for it
            with following(ledger.study, log, api.storage_url(storage), messenger.pass_on, worker=True):
                work(definition, ledger, device, population, threads, messenger.on_event, live_curves, step_times)
    except Stopped as stopped:
        if not messages:
            left = stopped.unreleased or "unfinished trials and reruns were released"
            write_line(f"hpo: {stop_reason(stopped)}; {left}", error=True)
            let_preempted_job_be_requeued()
        raise
    except HpoError as error:
        if not messages:
            raise
        messenger.send("error", text=str(error))
        raise SystemExit(error.exit_code) from None
