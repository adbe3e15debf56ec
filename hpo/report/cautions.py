"""Cautions: what a reader has to know before believing the verdict, one sentence each."""

from collections.abc import Iterator

from hpo.report.quantities import ConfigurationNumbers, StudyNumbers
from hpo.report.wording import count, escape, symbol

ENOUGH_SEEDS = 10


def cautions(numbers: StudyNumbers) -> list[str]:
    """Every warning that the study has earned, the gravest first."""
    found: list[str] = []
    for source in (_unfinished, _losses, _searches, _protocol, _reading):
        found += source(numbers)
    return found


def _unfinished(numbers: StudyNumbers) -> Iterator[str]:
    entries = numbers.configurations
    trials = [(entry.name, entry.tuning.finished, entry.tuning.planned, entry.tuning.failed) for entry in entries]
    short = [f"{escape(name)} {done} of {planned}" for name, done, planned, failed in trials if done < planned - failed]
    if short:
        yield f"interim: trials finished so far: {', '.join(short)}"
    missing = [
        f"{escape(entry.name)} {entry.reruns.finished} of {entry.reruns.planned}"
        for entry in entries
        if entry.reruns.finished + len(entry.reruns.failed_seeds) < entry.reruns.planned
    ]
    if missing:
        yield f"interim: reruns finished so far: {', '.join(missing)}; the verdict may still change"


def _losses(numbers: StudyNumbers) -> Iterator[str]:
    for entry in numbers.configurations:
        name, tuning, reruns = escape(entry.name), entry.tuning, entry.reruns
        if tuning.failed:  # slots fail for good only where the configuration was given up
            yield f"{name}: the configuration failed, {count(tuning.failed, 'trial')} unfinished{_causes(entry)}"
        elif tuning.failed_attempts:
            yield f"{name}: attempts of trials that failed and were made again: {_causes(entry).lstrip('; ')}"
        if tuning.diverged:
            yield f"{name}: {tuning.diverged} of {count(tuning.finished, 'trial')} diverged"
        if reruns.diverged_seeds:
            yield (
                f"{name}: {count(len(reruns.diverged_seeds), 'rerun')} diverged "
                f"({_seeds(reruns.diverged_seeds)}) and counted with the value of an untrained network"
            )
        if reruns.failed_seeds and not tuning.failed:
            yield f"{name}: {_seeds(reruns.failed_seeds)} failed and out of every pair"


def _searches(numbers: StudyNumbers) -> Iterator[str]:
    for entry in numbers.configurations:
        for name, place in entry.tuning.places.items():
            at = f"median place {place.position:.2f} of the best {place.trials} trials"
            if place.off:
                yield (
                    f"{escape(entry.name)} tuned itself off: {symbol(name)} sits at the end of its range "
                    f"where it has no effect ({at})"
                )
            elif place.end:
                yield (
                    f"{escape(entry.name)}: {symbol(name)} sits at the {place.end} end of its range ({at}); "
                    "a wider range may change the result"
                )


def _protocol(numbers: StudyNumbers) -> Iterator[str]:
    definition = numbers.definition
    planned = {entry.name: entry.tuning.planned for entry in numbers.configurations}
    if len(set(planned.values())) > 1:
        yield "unequal trial budgets: " + ", ".join(f"{escape(name)} {trials}" for name, trials in planned.items())
    if definition["tuning_epochs"] != definition["epochs"]:
        yield f"tuned for {definition['tuning_epochs']} epochs, rerun for {definition['epochs']}"
    if definition["score_epoch"] == "best":
        yield "the tuning score is that of the best epoch, which flatters noisy curves"
    if numbers.study["seeds"] < ENOUGH_SEEDS:
        yield f"fewer than {ENOUGH_SEEDS} seeds ({numbers.study['seeds']}) find only large differences"
    for note in numbers.study.get("notes") or []:
        if " raised from " not in note["event"] or "after a report" in note["event"]:
            yield escape(note["event"])


def _reading(numbers: StudyNumbers) -> Iterator[str]:
    reads = {entry.name: entry.reruns.rounds_read for entry in numbers.configurations}
    several = [f"{escape(name)} {times} times" for name, times in reads.items() if times > 1]
    if several:
        yield f"the test set was read more than once: {', '.join(several)}; only the newest reruns are used"
    if numbers.study["repeats"] == 1:
        yield "conditional on one tuning run: another one may choose other settings"
    elif numbers.study["repeats"] < 3:
        yield f"{numbers.study['repeats']} tuning repeats: fewer than three give no verdict"


def _causes(entry: ConfigurationNumbers) -> str:
    causes = [f"{cause} × {times}" for cause, times in entry.tuning.failed_attempts.items()]
    return f"; {', '.join(causes)}" if causes else ""


def _seeds(seeds: list[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
