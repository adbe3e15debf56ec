"""`hpo try`: one model, trained without a database."""

import dataclasses
import json
import math
from typing import Annotated, Any

import typer

from hpo.cli.options import AsJson, Device, Epochs, StudyName, app, whole_number
from hpo.errors import HpoError, check_configuration
from hpo.output import write_line
from hpo.space import as_json as to_json
from hpo.space import describe_bounds, show_value


@app.command("try")
def try_(
    study: StudyName,
    configuration: Annotated[
        str, typer.Option("--configuration", "-c", metavar="NAME", help="One of the study's configurations.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=VALUE",
            help="Hyperparameters, e.g. learning_rate=0.01; others: middle of range or choices.",
        ),
    ] = None,
    seed: Annotated[int, whole_number("Seed; tuning uses 0, 1, 2, …, reruns 1000 and up.", minimum=0)] = 0,
    epochs: Epochs = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train one model without a database and print its curves; never reads the test set."""
    from hpo import api
    from hpo.cli.terminal.catalogue import parse_settings
    from hpo.cli.terminal.messages import print_epoch, user_traceback
    from hpo.processor import cpu_cores
    from hpo.study import loading
    from hpo.training.devices import choose_device, prepare_process
    from hpo.worker.trainer import Trainer

    without_pruner = dataclasses.replace(loading.load(study), pruner=None)  # a pruner compares with other trials
    definition = api.with_overrides(without_pruner, None, epochs)
    check_configuration(study, configuration, [entry.name for entry in definition.configurations])
    chosen = choose_device(device)
    prepare_process(cpu_cores(), chosen)
    trainer = Trainer(definition, chosen)
    given = parse_settings(settings or [], definition, trainer.configuration(configuration))
    setting = trainer.setting_to_try(configuration, given)
    for name, bounds in trainer.recipes.space(configuration).tuned.items():
        if name in given and not bounds.contains(given[name]):
            write_line(f"hpo: {name} {show_value(given[name])} is outside {describe_bounds(bounds)}", error=True)
    if not as_json:
        write_line("  ".join(f"{key} {show_value(value)}" for key, value in setting.items()) + f"  seed {seed}")
    try:
        result = trainer.try_once(configuration, setting, seed, None if as_json else print_epoch)
    except HpoError:
        raise
    except Exception as error:
        write_line(user_traceback(error), error=True)
        raise SystemExit(1) from None
    if as_json:
        plain = {name: to_json(value) for name, value in setting.items()}
        values = {"setting": plain, "seed": seed, **result._asdict()}
        write_line(json.dumps(_finite(values), indent=1, allow_nan=False))
    elif result.diverged_epoch is not None:
        write_line(f"diverged in epoch {result.diverged_epoch}")
    else:
        write_line("  ".join(f"{key} {value:.4g}" for key, value in result.final.items()))


def _finite(value: Any) -> Any:
    """The value with None instead of NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
