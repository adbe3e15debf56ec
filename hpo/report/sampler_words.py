"""How the settings of a study were chosen, in words."""

from collections.abc import Mapping
from typing import Any

from hpo.report.wording import describe, escape, listed, plain_name, value_words
from hpo.trials import STARTUP_TRIALS, sampler_of

_IN_BATCHES = f"in batches: first {STARTUP_TRIALS} random ones, then at most a third of the trials at a time"


def sampler_words(definition: Mapping[str, Any], trials: int) -> str:
    """The sampler and the settings that were tried before it sampled any, in Markdown.

    Args:
        trials: planned for each configuration and tuning run.
    """
    counts = {entry["name"]: len(entry["first"]) for entry in definition["configurations"] if entry.get("first")}
    words = _words(definition, trials)
    if not counts:
        return words
    given = listed([f"{escape(name)} {count}" for name, count in counts.items()])
    return f"{words}; settings that the study itself gives and that came first: {given}"


def _words(definition: Mapping[str, Any], trials: int) -> str:
    kind = sampler_of(definition)
    if kind in ("tpe", "gp"):
        name = "Optuna's TPE sampler" if kind == "tpe" else "Optuna's Gaussian-process sampler"
        if trials <= STARTUP_TRIALS:
            return f"random settings, since {name} learns only after {STARTUP_TRIALS} trials"
        return f"settings from {name} {_IN_BATCHES}"
    if kind == "grid":
        values = definition["sampler"]["grid"].items()
        words = [f"{plain_name(name)} {', '.join(map(value_words, each))}" for name, each in values]
        return f"every combination of a grid ({escape('; '.join(words))}) and of choices that it does not name"
    if kind == "custom":
        return f"settings from the study's own sampler ({escape(describe(definition['sampler']))}) {_IN_BATCHES}"
    return {
        "random": "random search",
        "qmc": "settings from a scrambled Sobol sequence",
        "cmaes": "settings from CMA-ES, a generation at a time; choices are random",
    }[kind]
