"""The progress of a running study, with and without a terminal."""

import io
import re
import threading
from typing import Any

import pytest
from rich.console import Console
from storage_study import definition, finish_all, outcomes
from waiting import wait_for

from hpo.cli.terminal import progress
from hpo.cli.terminal.progress import Display
from hpo.cli.terminal.progress_bars import Bars
from hpo.cli.terminal.progress_lines import opening
from hpo.report.progress_log import MAX_SECONDS, ProgressLog
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, new_worker_id, open_study
from hpo.storage.ledger import progress as study_progress
from hpo.storage.ledger.progress import Progress, Training
from hpo.storage.optuna.live_curves import LiveCurves, write_live

WHERE = ("2 workers on cpu (AMD EPYC)", "sqlite:///hpo.db")


@pytest.fixture
def ledger(tmp_path: Any) -> Ledger:
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    planned = {"trials": 12, "seeds": 3, "tuning_runs": 1}
    return open_study(engine, "s", definition(epochs=6, tuning_epochs=6), "d", planned, {"title": "t"}, {})


def entry(**changes: Any) -> dict[str, Any]:
    fresh = {"trials_total": 40, "trials_done": 0, "reruns_total": 10, "reruns_done": 0, "leased": 0, "failed": 0}
    ends = {"diverged": 0, "pruned": 0, "without a finite score": 0}
    return fresh | ends | {"failures": {}, "best": None, "seconds": 0.0} | changes


def display(ledger: Ledger, terminal: bool = False, height: int = 30) -> tuple[Display, io.StringIO]:
    screen = io.StringIO()
    console = Console(
        file=screen, force_terminal=terminal, width=100, height=height, highlight=False, color_system=None
    )
    return Display(ledger, *WHERE, console=console), screen


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", text)


def failed(cause: str = "exception", text: str = "mine.py, line 3: no") -> dict[str, Any]:
    return {"kind": "failed", "configuration": "A", "phase": "tune", "models": 1, "cause": cause, "text": text}


def line(score: str = "validation_accuracy", **changes: Any) -> str:
    """The line of a configuration whose trials have just been finished."""
    (line,) = ProgressLog({"A": entry()}, score, 0).lines({"A": entry(trials_done=40) | changes}, 1)
    return line


def test_the_opening_has_the_plan() -> None:
    counts = {"AdamW": entry(), "GNVR": entry()}
    definition = {"epochs": 30, "tuning_epochs": 15}
    assert opening("gnvr", definition, counts, *WHERE) == [
        "gnvr: 2 configurations, each with 40 trials of 15 epochs, then 10 reruns of 30 epochs; "
        "2 workers on cpu (AMD EPYC); sqlite:///hpo.db"
    ]
    assert "3 tuning runs × " in opening("gnvr", definition, counts, "", "", tuning_runs=3)[0]
    (first,) = opening("gnvr", definition | {"seeds_per_trial": 3}, counts, "", "")
    assert "of 15 epochs and 3 seeds," in first
    (first,) = opening("gnvr", definition | {"pruner": {"kind": "SuccessiveHalving"}}, counts, "", "")
    assert "of at most 15 epochs," in first
    counts["GNVR"] = entry(trials_total=1, trials_done=1, reruns_total=9)
    first, second = opening("gnvr", {"epochs": 1, "tuning_epochs": 1}, counts, "", "")
    assert first == "gnvr: 2 configurations, together with 41 trials of 1 epoch, then 19 reruns of 1 epoch"
    assert "1 of 41 trials and 0 of 19 reruns" in second


def test_a_line_comes_after_every_quarter_or_half_minute_and_at_the_end() -> None:
    log = ProgressLog({"A": entry(), "B": entry()}, "validation_accuracy", start=100.0)

    def lines(time: float, **changes: Any) -> list[str]:
        return log.lines({"A": entry(**changes), "B": entry()}, 100.0 + time)

    assert lines(1, trials_done=9, best=0.4) == []
    assert lines(2, trials_done=10, best=0.48) == ["[   2.0 s] A: 10 of 40 trials, best validation accuracy 0.48"]
    assert lines(3, trials_done=10, best=0.48) == []
    assert lines(4, trials_done=19, best=0.5) == []
    assert lines(2 + MAX_SECONDS, trials_done=19, best=0.5) == [
        "[  32.0 s] A: 19 of 40 trials, best validation accuracy 0.5"
    ]
    assert lines(90, trials_done=40, best=0.123456, diverged=3) == [
        "[  90.0 s] A: 40 of 40 trials, best validation accuracy 0.1235, 3 diverged"
    ]
    assert lines(91, trials_done=40, reruns_done=10) == ["[  91.0 s] A: 10 of 10 reruns"]
    assert lines(500, trials_done=40, reruns_done=10) == []
    present = Progress([], "validation_accuracy", speed=1.0, seconds_left=600.0)
    [line] = log.lines({"A": entry(trials_done=40, reruns_done=10), "B": entry(trials_done=20)}, 700.0, present)
    assert line.endswith("; about 10 minutes left for the study")
    [line] = log.lines({"A": entry(), "B": entry(trials_done=40)}, 701.0, present._replace(seconds_left=1.0))
    assert "left" not in line


def test_earlier_results_are_not_printed() -> None:
    log = ProgressLog({"A": entry(trials_done=30)}, "validation_loss", start=0)
    assert log.lines({"A": entry(trials_done=30, best=1.0)}, 100.0) == []
    assert log.lines({"A": entry(trials_done=40, best=1e-7)}, 101.0) == [
        "[ 101.0 s] A: 40 of 40 trials, best validation loss 1e-07"
    ]


def test_pruned_diverged_and_unscored_trials_are_counted() -> None:
    assert line(pruned=5, best=0.5).endswith("best validation accuracy 0.5, 5 pruned")
    assert line(best=0.1, diverged=40).endswith("40 of 40 trials, 40 diverged")
    unscored = line("validation_gain", best=0.5, **{"without a finite score": 3})
    assert unscored.endswith("40 of 40 trials, best validation gain 0.5, 3 without a finite score")


def test_results_of_other_processes_are_shown(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    shown, screen = display(ledger)
    lines = threading.Event()
    with shown:
        assert screen.getvalue().startswith("s: 2 configurations, each with 12 trials of 6 epochs, then 3 reruns")
        print_line = shown.print
        monkeypatch.setattr(shown, "print", lambda text, file=None: (print_line(text, file), lines.set()))
        finish_all(ledger, until="rerun")  # by another worker, without messages to this display
        assert lines.wait(30)
        finish_all(ledger)
    text = screen.getvalue()
    assert [text.count(words) for words in ("A: 12 of 12 trials", "B: 12 of 12 trials")] == [1, 1]
    assert [text.count(words) for words in ("A: 3 of 3 reruns", "B: 3 of 3 reruns")] == [1, 1]


def test_the_last_results_are_shown(ledger: Ledger) -> None:
    shown, screen = display(ledger)
    with shown:
        finish_all(ledger)
    assert screen.getvalue().splitlines()[-1].endswith("B: 3 of 3 reruns")


def test_a_sentence_of_several_workers_is_shown_once(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    shown, screen = display(ledger)
    with shown:
        for worker in range(3):
            shown.show(worker, {"kind": "error", "text": "its gradient has shape (); return another"})
            shown.show(worker, {"kind": "warning", "text": "no rule for Odd"})
            shown.show(worker, failed())
            shown.show(worker, {"kind": "print", "text": "mine"})
        shown.show(0, failed("timeout", "TimeoutError: late"))
    text = screen.getvalue()
    assert text.count("hpo: no rule for Odd\n") == 1
    assert text.count("mine\n") == 3, "a user's prints are all shown"
    assert text.count("\nA: a trial failed (exception): mine.py, line 3: no\n") == 1
    assert text.splitlines()[-1] == "3 times in total: A: a trial failed (exception): mine.py, line 3: no"
    assert text.count("TimeoutError: late") == 1
    assert capsys.readouterr().err == "hpo: its gradient has shape (); return another\n"


def test_bars_show_the_best_score_and_below_them_what_the_workers_train(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    shown, screen = display(ledger, terminal=True)
    worker_id = new_worker_id()
    ledger.register(worker_id)
    work = ledger.lease(worker_id, 4)
    assert work is not None
    work = ledger.assign(worker_id, work, [{"learning_rate": 0.01}] * 4)
    with shown:
        write_live(ledger, worker_id, LiveCurves(work, {}, True, training(speed=40.0)._asdict()))
        wait_for(lambda: "A: 4 trials, epoch 2 of 6, loss 0.5321" in plain(screen.getvalue()))
        shown.show(0, failed())
        assert "A: a trial failed" in plain(screen.getvalue())
        finish_all(ledger)
        ledger.finish(worker_id, outcomes(work))
        finish_all(ledger)
    assert shown.bars is not None
    assert states(shown.bars) == {
        ("A", "trials"): "best 0.995", ("B", "trials"): "best 0.999", ("A", "reruns"): "", ("B", "reruns"): ""
    }  # fmt: skip
    last = plain(screen.getvalue()).rstrip().splitlines()[-4:]
    assert ["12/12" in line for line in last] == [True, True, False, False]
    assert ["3/3" in line for line in last] == [False, False, True, True]


def training(**changes: Any) -> Training:
    return Training("A", "tune", 4, 2, 6, 0.53213, 0.7134, 10.0)._replace(**changes)


def worker(**changes: Any) -> dict[str, Any]:
    return {"training": training(**changes)._asdict()}


def test_progress_in_words() -> None:
    counts = {"A": entry(seconds=0.0), "B": entry(seconds=0.0)}
    about = {"epochs": 6, "tuning_epochs": 3, "score": "validation_accuracy", "seeds_per_trial": 2}
    present = study_progress.progress(about, counts, [worker(), worker(configuration="B", phase="rerun", epoch=1)])
    assert study_progress.lines(present) == [
        "B: 4 reruns, epoch 1 of 6, loss 0.5321, validation accuracy 0.7134",
        "A: 4 trials, epoch 2 of 6, loss 0.5321, validation accuracy 0.7134",
        "20 epochs per second over all models, about 30 seconds left",
    ]
    # Each configuration: 40 trials of two models for 3 epochs, and 10 reruns of 6; less what is trained so far.
    assert present.seconds_left == pytest.approx((2 * (240 + 60) - 4 * 2 * 2 - 4) / 20)
    assert len(study_progress.lines(present, most=1)) == 3
    assert study_progress.lines(present, most=1)[1] == "and 1 other worker"
    assert study_progress.lines(study_progress.progress(about, counts, [])) == []
    nothing = study_progress.progress(about, counts, [worker(loss=None, score=None, speed=None)])
    assert study_progress.lines(nothing) == ["A: 4 trials, epoch 2 of 6"]


def test_the_time_left_follows_from_what_each_configuration_cost() -> None:
    done = {"trials_done": 20, "reruns_done": 5}
    counts = {"A": entry(seconds=150.0, **done), "B": entry(seconds=450.0, **done), "C": entry(seconds=0.0)}
    about = {"epochs": 6, "tuning_epochs": 6, "score": "validation_accuracy"}
    idle = {"training": None}
    # A and B have half of their runs left, and C all of them, at the mean cost of the others.
    left = (150 + 450 + 2 * (150 + 450) / 2) / 3
    assert study_progress.progress(about, counts, [idle] * 3).seconds_left == pytest.approx(left)
    over = {"A": entry(seconds=1.0, trials_done=40, reruns_done=10)}
    assert study_progress.progress(about, over, [idle]).seconds_left == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 second"), (1.4, "1 second"), (17, "17 seconds"), (44, "40 seconds"), (100, "2 minutes"),
        (3600, "60 minutes"), (7900, "2 hours 10 minutes"), (36000, "10 hours"), (4 * 86400, "4 days"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert study_progress.duration(seconds) == f"about {words}"


def test_only_the_present_phase_is_shown_if_not_all_bars_fit(ledger: Ledger) -> None:
    bars = Bars(ledger.counts(), Console(file=io.StringIO(), width=100, height=5))
    assert [task.visible for task in bars.progress.tasks] == [True, True, False, False]
    finish_all(ledger, until="rerun")
    bars.update(ledger.counts())
    bars.stop()
    assert [task.visible for task in bars.progress.tasks] == [False, False, True, True]


def test_each_configuration_has_its_own_phase(ledger: Ledger) -> None:
    """The reruns of a tuned configuration are shown, and their time counted, while another one is still tuned."""
    bars = Bars(ledger.counts(), Console(file=io.StringIO(), width=100, height=5))
    counts = ledger.counts()
    [first, *_] = counts
    counts[first] |= {"trials_done": counts[first]["trials_total"], "leased": 1}
    bars.update(counts)
    bars.stop()
    assert [task.visible for task in bars.progress.tasks] == [False, True, True, False]
    assert [task.started for task in bars.progress.tasks] == [True, False, True, False]


def states(bars: Bars) -> dict[tuple[str, str], str]:
    return {bar: bars.progress.tasks[index].fields["state"] for index, bar in enumerate(bars.tasks)}
