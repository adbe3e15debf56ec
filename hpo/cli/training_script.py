"""What `hpo best --python` prints: a script that trains the chosen setting, from the database and the study's file."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import UsageError
from hpo.output import visible
from hpo.report import Results
from hpo.storage.ledger import Ledger
from hpo.study.study import Study

if TYPE_CHECKING:
    import pandas as pd


def training_script(
    results: Results, ledger: Ledger, reference: str, configuration: str | None, data: Path | None
) -> str:
    """The script of the setting to use, of one configuration or of all.

    Args:
        results: of the study. reference: the study as the user names it.
        data: the file into which the samples are written, and from which the script reads them; None for samples that
            a package makes.

    Raises:
        UsageError: no trial has a score yet, the study's file has changed since its trials, or a part of the study
            cannot be written in plain PyTorch.
    """
    from hpo.data import load_source
    from hpo.snippet.script import write_script

    chosen = results.setting_to_use(configuration)
    name, tuning_run, number = str(chosen["configuration"]), int(chosen["tuning_run"]), int(chosen["number"])
    study, trials, reruns = _study(ledger, reference), ledger.export()["slots"], results.reruns
    [setting] = [row["setting"] for row in trials if _key(row) == (name, tuning_run - 1, "tune", number - 1)]
    of_run = reruns[(reruns["configuration"] == name) & (reruns["tuning_run"] == tuning_run) & ~reruns["superseded"]]
    seed = int(of_run["seed"].min())
    metric = study.score.replace("_", " ")
    words = (
        f"{visible(name)} of the study {ledger.study}, in plain PyTorch: its setting to use, of trial {number} in "
        f"tuning run {tuning_run}.\n\nIts {metric} was {chosen['score']:.6g} in tuning."
    )
    source, file = load_source(study.data), None if data is None else str(data)
    script = write_script(study, source, name, setting, seed, words, file, _outcome(of_run, seed))
    if data is not None:
        _write_samples(data, list(source[:4]))
    return script


def _outcome(reruns: "pd.DataFrame", seed: int) -> str:
    """How a rerun ended; empty for one that has not finished."""
    [row] = reruns[reruns["seed"] == seed].to_dict("records")
    metrics = {name.removeprefix("result/"): value for name, value in row.items() if name.startswith("result/")}
    shown = [
        f"{name} {value:.6f}"
        for name, value in metrics.items()
        if name.startswith(("validation_loss", "test_loss")) and value == value
    ]
    return f"which ended with {' and '.join(shown)}" if shown else ""


def _key(row: dict[str, Any]) -> tuple[str, int, str, int]:
    return row["configuration"], row["tuning_run"], row["phase"], row["slot"]


def _study(ledger: Ledger, reference: str) -> Study:
    """The study's file as it was when its trials were made."""
    from hpo.storage.ledger.added_configurations import find_added
    from hpo.storage.ledger.definition_diff import describe_changes, same_definition
    from hpo.study.definition import describe
    from hpo.study.fingerprint import fingerprint
    from hpo.study.loading import load
    from hpo.study.study_files import command_reference

    study = load(command_reference(ledger.text.get("command", "")) or reference, ledger.study)
    budget = {name: ledger.definition[name] for name in ("epochs", "tuning_epochs")}  # --epochs may have changed them
    study = dataclasses.replace(study, **budget)
    described = describe(study)
    if not same_definition(ledger.definition, described) and not find_added(ledger.definition, described):
        raise UsageError(
            f"the file of {ledger.study} has changed since its trials "
            f"({describe_changes(ledger.definition, described)}); restore it, so that the script trains what they did"
        )
    if not ledger.fingerprint.items() <= fingerprint(study).items():
        raise UsageError(
            f"the code of {ledger.study} has changed since its trials; restore it, so that the script trains what they "
            "did"
        )
    return study


def _write_samples(path: Path, samples: list[Any]) -> None:
    import torch

    if path.exists():
        raise UsageError(f"{path} exists, and --data would overwrite it; delete it or give another name")
    try:
        torch.save(samples, path)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"the samples cannot be written to {path} ({error}); give --data another file") from error
