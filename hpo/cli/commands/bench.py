"""`hpo bench`: benchmarks of training steps, images, searches, pruning, verdicts, start-up and long studies."""

import json
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from hpo.cli.options import AsJson, Device, Epochs, Name, Storage, StudyName, app
from hpo.errors import HpoError, UsageError, check_configuration, did_you_mean
from hpo.output import write_line

Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")]
Model = Annotated[str, typer.Option(help="mlp, convnet1d, convnet1d-group or resnet18.")]
BatchSize = Annotated[int, typer.Option(min=2, help="Samples per step.")]
ConfigurationName = Annotated[str, typer.Option("--configuration", "-c", help="The configuration to tune.")]
TrialsPerRun = Annotated[int, typer.Option("--trials", min=1, help="Trials per tuning run.")]
FreshSeeds = Annotated[int, typer.Option("--seeds", min=1, help="Seeds on which a chosen setting is trained.")]

bench = typer.Typer(invoke_without_command=True)
app.add_typer(bench, name="bench")


@bench.callback()
def steps(
    context: typer.Context,
    regularizer: Annotated[
        list[str] | None, typer.Option(help="Regularizer to measure; may be repeated; default: none and gnvr.")
    ] = None,
    population: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Models trained at once; may be repeated; default: 1, 2, 4, … while it gets faster."),
    ] = None,
    optimizer: Annotated[
        str, typer.Option(help="adamw, or an optimizer of PyTorch, one instance per model, such as torch.AdamW.")
    ] = "adamw",
    model: Model = "mlp",
    batch_size: BatchSize = 64,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Mixed precision, images with channels last.")] = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure training speed (model-steps per second) by population size, compared with a loop over single models."""
    if context.invoked_subcommand:
        return
    from hpo.bench import steps
    from hpo.bench.training_steps import MODELS, Setting, optimizer_names
    from hpo.optim.regularizers import REGULARIZERS

    names = regularizer or ["none", "gnvr"]
    for name in names:
        _check_choice("regularizer", name, REGULARIZERS)
    _check_choice("model", model, MODELS)
    _check_choice("optimizer", optimizer, optimizer_names())
    setting = Setting(model, batch_size, _prepare_device(device, threads), bfloat16, optimizer)
    _run(steps, as_json, names, population, setting)


@bench.command("study")
def configurations(
    study: StudyName,
    population: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Models trained at once; may be repeated; default: as in the reruns, and 1."),
    ] = None,
    name: Name = None,
    epochs: Epochs = None,
    storage: Storage = None,
    device: Device = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; default: those of a worker.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Time of a training step of each configuration of a study, by turns; the report's table of costs shows it.

    With the settings that tuning chose, if the database has the study, where the times are stored for its report.
    Otherwise with the middle of each range.
    """
    from hpo import api
    from hpo.bench import configurations
    from hpo.study import loading
    from hpo.worker.trainer import Trainer

    definition = api.with_overrides(loading.load(study, name), name, epochs)
    ledger = api.find_ledger(definition, api.storage_url(storage))
    trainer = Trainer(definition, _prepare_device(device, threads))
    result = _run(configurations, as_json, trainer, ledger, population)
    if ledger:
        ledger.note_step_times(result)


@bench.command()
def norms(
    model: Model = "convnet1d",
    population: Annotated[int, typer.Option(min=1)] = 20,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Time and memory of per-sample gradient norms by the layer rules, compared with vmap(grad)."""
    from hpo.bench import norms
    from hpo.bench.training_steps import MODELS

    _check_choice("model", model, MODELS)
    _run(norms, as_json, model, population, batch_size, _prepare_device(device, threads))


@bench.command()
def search(
    study: StudyName,
    configuration: ConfigurationName,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Settings requested from TPE at once; may be repeated.")
    ] = None,
    trials: TrialsPerRun = 40,
    repetitions: Annotated[int, typer.Option(min=2, help="Tuning runs for each batch size.")] = 20,
    seeds: FreshSeeds = 5,
    epochs: Epochs = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """How good a setting TPE finds when it suggests many at once, compared with one at a time."""
    from hpo import api
    from hpo.bench import search
    from hpo.worker.trainer import Trainer

    definition = api.with_overrides(_load(study, configuration), None, epochs)
    trainer = Trainer(definition, _prepare_device(device, threads))
    sizes = list(dict.fromkeys([1, *(batch or [8, 32, 128])]))
    _run(search, as_json, trainer, configuration, trials, sizes, repetitions, seeds)


@bench.command()
def verdicts(
    comparisons: Annotated[int, typer.Option(min=0, help="Trained comparisons per number of seeds; 0 for none.")] = 200,
    seeds: Annotated[
        list[int] | None, typer.Option(min=3, help="Seeds of a comparison; may be repeated; by default 5 and 10.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of every run.")] = 10,
    samples: Annotated[int, typer.Option(min=50, help="MNIST-1D samples; a fifth is for the test.")] = 4000,
    simulated: Annotated[int, typer.Option(min=0, help="Simulated studies for each row; 0 for none.")] = 2000,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Whether verdicts are right as often as they claim: a configuration against itself, and planted effects."""
    from hpo.bench import verdicts
    from hpo.data import Mnist1d

    study = verdicts.aa_study(Mnist1d(samples=samples, label_noise=0.2), epochs)
    sizes = list(dict.fromkeys(seeds or [5, 10]))
    result = _run(verdicts, as_json, study, comparisons, sizes, simulated, _prepare_device(device, threads))
    if not result["passes"]:
        raise HpoError("verdicts are wrong more often than they claim; see the rows that do not pass")


@bench.command()
def groups(
    samples: Annotated[int, typer.Option(min=10, help="Samples for each row.")] = 2000,
    n: Annotated[list[int] | None, typer.Option("--values", min=5, help="Values in a sample; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """How often reports see two groups of values where there is one, and where there are two."""
    from hpo.bench import groups

    if not _run(groups, as_json, samples, list(dict.fromkeys(n or groups.SIZES)))["passes"]:
        raise HpoError("two groups are seen too often or too rarely; see the rows that do not pass")


@bench.command()
def pruning(
    study: StudyName,
    configuration: ConfigurationName,
    min_epochs: Annotated[int, typer.Option(min=1, help="Epochs before trials are first pruned.")] = 3,
    factor: Annotated[int, typer.Option(min=2, help="Keep 1 of N trials, each for N times as many epochs.")] = 3,
    trials: TrialsPerRun = 40,
    repetitions: Annotated[int, typer.Option(min=2, help="Tuning runs with and without pruning.")] = 8,
    seeds: FreshSeeds = 5,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """How much time successive halving saves in tuning, and how good the chosen setting is with and without it."""
    from hpo.bench import pruning
    from hpo.study.pruner import SuccessiveHalving

    definition, pruner = _load(study, configuration), SuccessiveHalving(min_epochs, factor)
    prepared = _prepare_device(device, threads)
    _run(pruning, as_json, definition, configuration, prepared, pruner, trials, repetitions, seeds)


@bench.command()
def images(
    folder: Annotated[
        Path | None, typer.Argument(help="Images in folders by class; default: JPEGs that are made for it.")
    ] = None,
    made: Annotated[int, typer.Option("--images", min=200, help="Images to make.")] = 2000,
    size: Annotated[int, typer.Option(min=1, help="Side of a crop in pixels.")] = 224,
    batch_size: BatchSize = 64,
    processes: Annotated[int, typer.Option(min=0, help="Processes that decode.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Epochs of each loader, in turns.")] = 5,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Images per second that ImageFolder gives to training, compared with a plain DataLoader; no network."""
    from hpo.bench import images

    _run(images, as_json, folder, made, size, batch_size, processes, rounds, _prepare_device(device, threads))


@bench.command()
def startup(
    device: Device = "auto",
    repetitions: Annotated[int, typer.Option(min=1, help="Processes for each part.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Time and memory from the command to hpo --help and to the first training step, with their limits."""
    from hpo.bench import startup

    _run(startup, as_json, device, repetitions)


@bench.command()
def scale(
    trials: Annotated[
        list[int] | None, typer.Option(min=100, help="Finished trials; may be repeated; default: 1000 and 100000.")
    ] = None,
    storage: Storage = None,
    repetitions: Annotated[int, typer.Option(min=1, help="Trials that are timed.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure what one more trial costs to lease, sample and store after very many trials, without training."""
    from tempfile import TemporaryDirectory

    from hpo.bench import scale

    with TemporaryDirectory() as folder:
        url = storage or f"sqlite:///{folder}/scale.db"
        _run(scale, as_json, url, trials or [1000, 100_000], repetitions)


@bench.command()
def published(
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each, by turns.")] = 1,
    tuning_runs: Annotated[int, typer.Option(min=1, help="Tuning runs; the script's time counts as often.")] = 1,
    against: Annotated[
        Path | None, typer.Option(file_okay=False, exists=True, help="Another checkout of hpo, instead of the script.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each configuration.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Reruns of each configuration per tuning run.")] = 5,
    tuning_epochs: Annotated[int, typer.Option(min=1, help="Epochs of a trial.")] = 15,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of a rerun.")] = 30,
    as_json: AsJson = False,
) -> None:
    """How long a whole study takes, by turns with a plain script of it (PyTorch, Optuna, vmap); takes minutes."""
    from hpo.bench import published

    protocol = published.Protocol(trials, seeds, tuning_epochs, epochs)
    _run(published, as_json, protocol, tuning_runs, against, rounds)


def _run(benchmark: ModuleType, as_json: bool, *arguments: Any) -> dict[str, Any]:
    from hpo.bench.table import Table

    on_row = (lambda _: None) if as_json else Table(benchmark.COLUMNS, write_line)
    result: dict[str, Any] = benchmark.measure(*arguments, on_row=on_row)
    write_line(json.dumps(result, indent=1) if as_json else benchmark.summary(result))
    return result


def _check_choice(kind: str, name: str, choices: Any) -> None:
    if name not in choices:
        hint = did_you_mean(name, choices)
        raise UsageError(f"there is no {kind} {name!r}; choose from {', '.join(choices)}{hint}")


def _load(study: str, configuration: str) -> Any:
    from hpo.study import loading

    definition = loading.load(study)
    check_configuration(study, configuration, [entry.name for entry in definition.configurations])
    return definition


def _prepare_device(option: str, threads: int | None) -> Any:
    """The device, after this process has been set up to train on it."""
    from hpo.processor import cpu_cores
    from hpo.training.devices import choose_device, prepare_process

    device = choose_device(option)
    prepare_process(threads or cpu_cores(), device)
    return device
