"""The page of one study: the words and numbers that its template shows."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hpo.analysis.metric import primary_metric, score_of
from hpo.analysis.results import StudyNumbers
from hpo.diagnostics import described_words
from hpo.errors import plural
from hpo.output import visible
from hpo.report import analysis_tables, effort_tables, reproduction, tables, tuning_tables
from hpo.report.figure_plan import Figure
from hpo.report.formatting import duration
from hpo.report.page import Page
from hpo.report.sampler_words import sampler_words
from hpo.report.setting_words import choice_rule, fixed_for_all, own_fixed, settings_to_use
from hpo.report.two_groups import group_warnings
from hpo.report.warnings import find_warnings
from hpo.report.wording import equivalence_level, escape, legend, listed, plain_name, value_words, verdict_lines
from hpo.study.study_files import command_reference
from hpo.study.training_space import is_training
from hpo.tasks import task_of

TABLES = (*tables.TABLES, *analysis_tables.TABLES, *effort_tables.TABLES, *tuning_tables.TABLES)


def report_page(
    numbers: StudyNumbers, figures: Sequence[Figure], commands: Sequence[str], analysis: str | None
) -> Page:
    """A study's report, with the commands that reproduce it and the author's own analysis (Markdown)."""
    values = {
        **_results(numbers),
        **_methodology(numbers),
        "tables": {table.__name__: table(numbers) for table in TABLES},
        "hypothesis": numbers.study["text"].get("hypothesis") or "",
        "commands": [visible(line) for line in commands],
        "steps": reproduction.steps(numbers.study),
        "export_command": visible(shlex.join(["hpo", "export", numbers.study["name"], "--format", "study"])),
        "analysis": analysis,
        "bench_command": visible(_bench_command(numbers.study)),
        "measured_on": _day(numbers.step_times.time) if numbers.step_times else "",
        "not_measured": _not_measured(numbers),
    }
    return Page(numbers.title, "body.md.jinja", values, [figure for figure in figures if figure.applies])


def _results(numbers: StudyNumbers) -> dict[str, Any]:
    """Values for the verdicts, the results, the analysis and the limits."""
    return {
        "numbers": numbers,
        "study": numbers.study,
        "definition": numbers.definition,
        "metric": numbers.metric,
        "primary": primary_metric(numbers.definition),
        "score": score_of(numbers.definition),
        "task": task_of(numbers.definition),
        "baseline": escape(numbers.baseline.name),
        "verdicts": verdict_lines(numbers),
        "warnings": find_warnings(numbers),
        "paired": [rival for rival in numbers.comparisons if rival.verdict.comparison.n > 1],
        "confounded": _confounded(numbers),
        "diverged": any(entry.reruns.diverged_seeds for entry in numbers.configurations),
        "groups": list(group_warnings(numbers)),
        "to_use": settings_to_use(numbers),
        "choice_rule": choice_rule(numbers),
        "facts": facts(numbers),
        "methods": _methods(numbers),
        "diagnostics": [escape(described_words(each)) for each in numbers.definition.get("diagnostics", ())],
        "undetectable": [
            f"{rival.name} against {rival.against}" if numbers.planned else rival.name
            for rival in numbers.comparisons
            if rival.verdict.rule == 5 and rival.verdict.comparison.mde > rival.verdict.margin
        ],
    }


def _confounded(numbers: StudyNumbers) -> dict[str, list[str]]:
    """What configurations are compared with → those whose curves may only look smoother, or rougher, than its own."""
    names: dict[str, list[str]] = {}
    for rival in numbers.comparisons:
        if rival.roughness and not rival.same_learning_rate:
            names.setdefault(rival.against, []).append(rival.name)
    return names


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%-d %B %Y")


def _not_measured(numbers: StudyNumbers) -> list[str]:
    """The configurations that came into the study after its steps were measured."""
    measured = {row.configuration for row in numbers.step_times.rows} if numbers.step_times else set()
    return [escape(entry.name) for entry in numbers.configurations if measured and entry.name not in measured]


def _bench_command(study: Mapping[str, Any]) -> str:
    """The command that measures the steps of a study, with what `hpo run` was given to create it."""
    command = study["text"].get("command") or ""
    words = shlex.split(command)
    kept = [word for flag in ("--name", "--epochs") if flag in words for word in words[words.index(flag) :][:2]]
    return shlex.join(["hpo", "bench", "study", command_reference(command) or study["name"], *kept])


def _methods(numbers: StudyNumbers) -> dict[str, str]:
    """What the configurations' regularizers compute, in their authors' words, by the names of those that have them."""
    names: dict[str, list[str]] = {}
    for name, words in (numbers.study["text"].get("methods") or {}).items():
        names.setdefault(words.replace("`", ""), []).append(name)  # the marks of code in a docstring
    return {"; ".join(having): words for words, having in names.items()}


def facts(numbers: StudyNumbers) -> list[str]:
    """What the study has cost, when it ran and with what, in a few words each."""
    spent = numbers.compute
    if not spent.epochs:
        return []
    gradients = f" ({spent.gradient_evaluations:,} gradient evaluations)" if spent.gradient_evaluations else ""
    epochs = f"{plural(spent.epochs, 'epoch')} of single models{gradients}"
    words = [epochs, f"{duration(spent.device_seconds)} of device time"]
    if spent.last > spent.first:
        lasted = duration(spent.last - spent.first)
        words += [f"{lasted} from the first run to the last, pauses included, on {_day(spent.last)}"]
    versions = numbers.environments[-1] if numbers.environments else {}
    return [*words, *(f"{name} {versions[name]}" for name in ("hpo", "torch") if versions.get(name))]


def _methodology(numbers: StudyNumbers) -> dict[str, Any]:
    configurations, data = numbers.definition["configurations"], numbers.definition["data"]
    return {
        "samples": numbers.samples,
        "schedule": _schedule(numbers.definition["schedule"]),
        "split_by_seed": not (isinstance(data, Mapping) and data.get("split") == "last"),
        "legend": escape(legend(dict.fromkeys(name for entry in configurations for name in entry["space"]))),
        "fixed": ", ".join(
            f"{escape(plain_name(name))} {escape(value_words(value))}" for name, value in fixed_for_all(numbers).items()
        ),
        "decay": "; ".join(_decay(numbers)),
        "parameters": _parameters(numbers),
        "has_own_fixed": any(own_fixed(entry["name"], numbers) for entry in configurations),
        "training_names": _training_names(numbers),
        "uneven_seeds": _uneven_seeds(numbers),
        "trial_budget": _trial_budget(numbers),
        "sampler": sampler_words(numbers.definition, numbers.study["trials"]),
        "pruned_epochs": _pruned_epochs(numbers),
        "equivalence_level": equivalence_level(numbers.comparisons[0].verdict),
    }


def _schedule(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schedule with the end of a cosine, which the definition has only where it is not 0."""
    return {**described, "end": described.get("end", 0.0)} if described["kind"] == "Cosine" else described


def _decay(numbers: StudyNumbers) -> Iterator[str]:
    """What weight decay means for the built-in optimizers of the study."""
    used = [entry["optimizer"] for entry in numbers.definition["configurations"]]
    if "adamw" in used:
        yield "adamw multiplies the weights by 1 − learning rate · weight decay in each step (decoupled)"
    if coupled := [name for name in ("sgd", "nesterov", "adam") if name in used]:
        verb = "adds" if len(coupled) == 1 else "add"
        yield f"{listed(coupled)} {verb} weight decay · weights to the gradient (L2)"


def _parameters(numbers: StudyNumbers) -> str:
    """ "78,346 parameters; not trained by any optimizer: 1,290 of Muon"; empty before the first rerun."""
    runs = {escape(entry.name): entry.reruns for entry in numbers.configurations if entry.reruns.parameters}
    counts = {name: _from_to(reruns.parameters) for name, reruns in runs.items()}
    left = {name: _from_to(reruns.untrained_parameters) for name, reruns in runs.items()}
    words = f"{next(iter(counts.values()))} parameters" if len({*counts.values()}) == 1 else ""
    if len({*counts.values()}) > 1:
        words = f"parameters: {', '.join(f'{name} {count}' for name, count in counts.items())}"
    untrained = [f"{count} of {name}" for name, count in left.items() if count != "0"]
    return words + (f"; not trained by any optimizer: {listed(untrained)}" if untrained else "")


def _from_to(counts: Sequence[int]) -> str:
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"


def _training_names(numbers: StudyNumbers) -> str:
    """The training hyperparameters that some configuration has of its own: "batch size and model width"."""
    spaces = [entry["space"] for entry in numbers.definition["configurations"]]
    names = dict.fromkeys(name for space in spaces for name in space if is_training(name))
    return listed([escape(plain_name(name)) for name in names]) if names else ""


def _trial_budget(numbers: StudyNumbers) -> str:
    trials = {name: number for name, number in numbers.trials_per_run.items() if name in numbers.tuned}
    words = "trials: " + ", ".join(f"{escape(name)} {number}" for name, number in trials.items())
    if len(set(trials.values())) == 1:
        words = f"{plural(next(iter(trials.values())), 'trial')} per configuration"
    untuned = [escape(entry.name) for entry in numbers.configurations if entry.name not in trials]
    if not trials:
        return "no configuration has anything to tune, 1 trial each"
    return words + (f" ({listed(untuned)} {'has' if len(untuned) == 1 else 'have'} nothing to tune)" if untuned else "")


def _pruned_epochs(numbers: StudyNumbers) -> str:
    """How many epochs were really trained, by configuration: "AdamW 412 of 1,200 (30 of 40 trials pruned)"."""
    epochs = numbers.definition["tuning_epochs"]
    return ", ".join(
        f"{escape(entry.name)} {entry.tuning.epochs:,} of {entry.tuning.finished * epochs:,} "
        f"({entry.tuning.pruned} of {plural(entry.tuning.finished, 'trial')} pruned)"
        for entry in numbers.configurations
    )


def _uneven_seeds(numbers: StudyNumbers) -> str:
    """How many seeds each tuning run has, in order, where some have more than others: "10, 3, 3, 2 and 2"."""
    seeds = Counter(numbers.baseline.reruns.tuning_run_by_seed.values())
    counts = [seeds[tuning_run] for tuning_run in sorted(seeds)]
    return listed([str(count) for count in counts]) if len(set(counts)) > 1 else ""
