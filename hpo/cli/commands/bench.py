"""`hpo bench`: what this device does in a second, and what that is worth."""

import json
from typing import Annotated, Any, Optional

import typer

from hpo.cli.options import AsJson, Device, Epochs, StudyName, app
from hpo.errors import HpoError, UsageError

Threads = Annotated[Optional[int], typer.Option(min=1, help="CPU threads; default: all cores.")]  # noqa: UP045
Model = Annotated[str, typer.Option(help="mlp, convnet1d, convnet1d-group or resnet18.")]
BatchSize = Annotated[int, typer.Option(min=2, help="Samples of a step.")]

bench = typer.Typer(invoke_without_command=True)
app.add_typer(bench, name="bench")


@bench.callback()
def steps(
    context: typer.Context,
    regularizer: Annotated[Optional[list[str]], typer.Option(help="May be repeated.")] = None,  # noqa: UP045
    population: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Option(min=1, help="May be repeated; by default 1, 2, 4, … while it pays."),
    ] = None,
    model: Model = "mlp",
    batch_size: BatchSize = 64,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Mixed precision, images with channels last.")] = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Model-steps per second by population size on this device, beside a loop over single models."""
    if context.invoked_subcommand:
        return
    from hpo.bench.steps import measure
    from hpo.errors import did_you_mean
    from hpo.optim.regularizers import REGULARIZERS

    names = regularizer or ["none", "gnvr"]
    for name in names:
        if name not in REGULARIZERS:
            hint = did_you_mean(name, REGULARIZERS)
            raise UsageError(f"there is no regularizer {name!r}; choose from {', '.join(REGULARIZERS)}{hint}")
    _check_model(model)
    place = _prepared(device, threads)
    _print(measure(names, population, place, model, batch_size, bfloat16, _show(as_json)), as_json)


@bench.command()
def norms(
    model: Model = "convnet1d",
    population: Annotated[int, typer.Option(min=1)] = 20,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Time and memory of per-sample gradient norms by the per-layer rules, beside vmap(grad)."""
    from hpo.bench.norms import measure_norms

    _check_model(model)
    _print(measure_norms(model, population, batch_size, _prepared(device, threads), _show(as_json)), as_json)


@bench.command()
def search(
    study: StudyName,
    configuration: Annotated[str, typer.Option("--configuration", "-c", help="The configuration to tune.")],
    batch: Annotated[Optional[list[int]], typer.Option(min=1, help="May be repeated; first 1.")] = None,  # noqa: UP045
    trials: Annotated[int, typer.Option(min=1, help="Of every tuning run.")] = 40,
    repetitions: Annotated[int, typer.Option(min=2, help="Tuning runs for each batch size.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds that a chosen setting is trained on.")] = 5,
    epochs: Epochs = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """How good a setting TPE finds when it is asked for many at once, against one at a time."""
    from hpo import api
    from hpo.bench.search import measure_search
    from hpo.cli.commands.try_once import check_configuration
    from hpo.study import loading
    from hpo.worker.trainer import Trainer

    definition = api.with_overrides(loading.load(study), None, epochs)
    check_configuration(definition, study, configuration)
    trainer = Trainer(definition, _prepared(device, threads))
    sizes = list(dict.fromkeys([1, *(batch or [8, 32, 128])]))
    _print(
        measure_search(trainer, configuration, trials, sizes, repetitions, seeds, show=_show(as_json)),
        as_json,
    )


@bench.command()
def verdicts(
    comparisons: Annotated[int, typer.Option(min=0, help="Trained ones for each number of seeds; 0 for none.")] = 200,
    seeds: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Option(min=3, help="Of a comparison; may be repeated; by default 5 and 10."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of every run.")] = 10,
    samples: Annotated[int, typer.Option(min=50, help="Of mnist1d, a fifth of them for the test.")] = 4000,
    simulated: Annotated[int, typer.Option(min=0, help="Simulated studies for each row; 0 for none.")] = 2000,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Whether verdicts are right as often as they say: a configuration against itself, and with a planted effect."""
    from hpo.bench.verdicts import aa_study, measure_verdicts
    from hpo.data import Mnist1d

    study = aa_study(Mnist1d(samples=samples, label_noise=0.2), epochs)
    sizes = list(dict.fromkeys(seeds or [5, 10]))
    place = _prepared(device, threads)
    found = measure_verdicts(study, comparisons, sizes, simulated, place, show=_show(as_json))
    _print(found, as_json)
    if not found["passes"]:
        raise HpoError("verdicts are not as often right as they say; see the rows that do not pass")


@bench.command()
def pruning(
    study: StudyName,
    configuration: Annotated[str, typer.Option("--configuration", "-c", help="The configuration to tune.")],
    min_epochs: Annotated[int, typer.Option(min=1, help="Epochs after which trials are judged first.")] = 3,
    factor: Annotated[int, typer.Option(min=2, help="One trial in so many goes on, for so many times as long.")] = 3,
    trials: Annotated[int, typer.Option(min=1, help="Of every tuning run.")] = 40,
    repetitions: Annotated[int, typer.Option(min=2, help="Tuning runs with and without pruning.")] = 8,
    seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds that a chosen setting is trained on.")] = 5,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """What successive halving saves of a tuning run, and how good a setting is chosen with it and without."""
    from hpo.bench.pruning import measure_pruning
    from hpo.cli.commands.try_once import check_configuration
    from hpo.study import loading
    from hpo.study.pruner import SuccessiveHalving

    definition = loading.load(study)
    check_configuration(definition, study, configuration)
    pruner = SuccessiveHalving(min_epochs, factor)
    place = _prepared(device, threads)
    _print(
        measure_pruning(definition, configuration, place, pruner, trials, repetitions, seeds, _show(as_json)), as_json
    )


@bench.command()
def storage(
    storage: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Database URL; by default a SQLite file in a temporary folder."),
    ] = None,
    population: Annotated[int, typer.Option(min=1, help="Trials leased at once.")] = 32,
    finished: Annotated[int, typer.Option(min=20, help="Trials that are finished before.")] = 1000,
    clients: Annotated[int, typer.Option(min=1, help="Processes that work at the same time.")] = 8,
    training: Annotated[
        float, typer.Option(min=0.1, help="Seconds that a population trains, in the table of many workers.")
    ] = 30,
    as_json: AsJson = False,
) -> None:
    """What a trial costs in sampling and storage, and how many workers a database bears. Leaves nothing behind."""
    from hpo.bench.storage import measure_storage

    show = _show(as_json)
    found = measure_storage(storage, population, finished, clients=clients, training=training, show=show)
    _print(found, as_json)


@bench.command()
def overheads(
    storage: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Database URL; by default a SQLite file in a temporary folder."),
    ] = None,
    device: Device = "auto",
    repetitions: Annotated[int, typer.Option(min=1, help="Of every part; the median and the least are shown.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Time and memory of start-up, ask, tell, curves and report, beside their goals. Leaves nothing behind."""
    from hpo.bench.overheads import measure_overheads

    _print(measure_overheads(storage, device, repetitions, show=_show(as_json)), as_json)


def _check_model(model: str) -> None:
    from hpo.bench.training_steps import MODELS

    if model not in MODELS:
        raise UsageError(f"there is no model {model!r}; choose from {', '.join(MODELS)}")


def _prepared(device: str, threads: int | None) -> Any:
    """The device, once this process is set up to train on it."""
    from hpo.training.devices import choose_device, cpu_cores, prepare_process

    place = choose_device(device)
    prepare_process(threads or cpu_cores(), place)
    return place


def _show(as_json: bool) -> Any:
    return None if as_json else typer.echo


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found, indent=1))
