"""`hpo try`: one model, trained once without a database."""

import dataclasses
import json
import math
import sys
from typing import Annotated, Any, Optional

import typer

from hpo.cli.options import AsJson, Device, Epochs, StudyName, app
from hpo.errors import HpoError, UsageError
from hpo.study.study import Study


@app.command("try")
def try_(
    study: StudyName,
    configuration: Annotated[str, typer.Option("--configuration", "-c", help="The configuration to run.")],
    settings: Annotated[Optional[list[str]], typer.Argument(metavar="NAME=VALUE", help="Hyperparameters.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(min=0, help="The seed; 0 is that of tuning.")] = 0,
    epochs: Epochs = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train one model once, without any database, and print its curves; the test set stays unread."""
    from hpo import api
    from hpo.cli.terminal.catalogue import parse_settings
    from hpo.cli.terminal.messages import own_traceback, print_epoch
    from hpo.study import loading
    from hpo.training.devices import choose_device, cpu_cores, prepare_process
    from hpo.worker.trainer import Trainer

    alone = dataclasses.replace(loading.load(study), pruner=None)  # which compares with others, over whole trials
    definition = api.with_overrides(alone, None, epochs)
    check_configuration(definition, study, configuration)
    place = choose_device(device)
    prepare_process(cpu_cores(), place)
    trainer = Trainer(definition, place)
    setting = parse_settings(settings or [], trainer.configuration(configuration))
    whole = trainer.setting_to_try(configuration, setting)
    if not as_json:
        typer.echo("  ".join(f"{key} {value:g}" for key, value in whole.items()) + f"  seed {seed}")
    try:
        result = trainer.try_once(configuration, whole, seed, None if as_json else print_epoch)
    except HpoError:
        raise
    except Exception as error:
        print(own_traceback(error), file=sys.stderr)
        raise SystemExit(1) from None
    if as_json:
        typer.echo(json.dumps(_json({"setting": whole, "seed": seed, **result._asdict()}), indent=1, allow_nan=False))
    elif result.diverged_epoch is not None:
        typer.echo(f"diverged in epoch {result.diverged_epoch}")
    else:
        typer.echo("  ".join(f"{key} {value:.4g}" for key, value in result.final.items()))


def _json(value: Any) -> Any:
    """Dicts and lists with None for what is not finite: JSON has no word for it."""
    if isinstance(value, dict):
        return {key: _json(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_json(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_configuration(definition: Study, study: str, name: str) -> None:
    """Raises UsageError where the study has no configuration of that name."""
    from hpo.errors import did_you_mean

    names = [entry.name for entry in definition.configurations]
    if name not in names:
        hint = did_you_mean(name, names)
        raise UsageError(f"{study} has no configuration {name!r}; choose one of {', '.join(names)}{hint}")
