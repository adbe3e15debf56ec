"""The project's own studies: their protocols, and that every part of them runs from end to end in a small version."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import cifar_archives
import pytest
from image_folders import image_folder

from hpo import (
    MLP,
    VGG,
    CharLM,
    Cifar10,
    Cifar100,
    Digits,
    ImageFolder,
    Mnist1d,
    PyramidNet,
    ResNet,
    Study,
    Table,
    Tales,
    WideResNet,
    notebooks,
)  # fmt: skip
from hpo.optim.regularizers import REGULARIZERS
from hpo.study.definition import describe, digest
from hpo.study.loading import load, variants
from hpo.tasks import SHARES, TASKS

STUDIES = Path(__file__).parents[2] / "studies"
FILES = sorted(STUDIES.glob("*.py"))
REFERENCES = [f"{path}{variant and f':{variant}'}" for path in FILES for variant in variants(path) or ("",)]
IMAGE_SOURCES = {"sam", "vasso", "gam", "gvr"}
WITH_OWN_PARTS = {"charlm", "optimizers", "table"}  # an optimizer, another one, a metric of a whole set
# The studies that a machine without a GPU finishes in hours: with ten tuning runs they detect differences of a point.
RUN_ON_TWO_CORES = {"sgsc", "rogc", "gvr_mnist1d", "gvr_digits", "sam_family", "digits", "weight_decay", "shootout"}
RUN_ON_TWO_CORES |= {"decay_or_regularizer", "optimizers"}
NAMES = [reference.rpartition("/")[2].replace(".py", "") for reference in REFERENCES]

pytestmark = pytest.mark.usefixtures("one_thread")


def described(name: str) -> dict[str, Any]:
    file, _, variant = name.partition(":")
    return describe(load(f"{STUDIES / file}.py{variant and f':{variant}'}"))


def file_of(reference: str) -> str:
    """The name of a study's file without its ending and variant."""
    return Path(reference).name.partition(".")[0]


def tuned(study: Study) -> dict[str, list[str]]:
    """Configuration → its tuned hyperparameters."""
    entries = describe(study)["configurations"]
    return {e["name"]: [key for key, entry in e["space"].items() if type(entry) is dict] for e in entries}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of generated data for all studies."""
    return tmp_path_factory.mktemp("cache")


def test_every_source_has_its_study() -> None:
    expected = {"gnvr", "gnvr_published", "sgsc", "sgsc_published", "sam", "gvr_mnist1d", "gvr_digits"}
    expected |= {"gvr:clean", "gvr:noisy", "rogc:clean", "rogc:noisy"}
    expected |= {f"vasso:{variant}" for variant in ("cifar10", "cifar100", "wrn", "vgg", "imagenet")}
    expected |= {f"gam:{variant}" for variant in ("cifar10", "cifar10-pyramidnet", "cifar100", "cifar100-pyramidnet")}
    expected |= {"gam:cifar100-resnet50", "gam:cifar100-resnet101"}
    expected |= {"rogc_published:clean", "rogc_published:noisy", "digits", "weight_decay"}
    expected |= {"sam_family:clean", "sam_family:noise20", "sam_family:noise40", "sam_family:digits"}
    expected |= {"shootout:clean", "shootout:noise20", "shootout:noise40", "charlm", "regression", "table"}
    expected |= {
        "decay_or_regularizer",
        *(f"optimizers:{variant}" for variant in ("mnist1d", "digits", "charlm", "table")),
    }
    assert set(NAMES) == expected


@pytest.mark.parametrize("reference", REFERENCES, ids=NAMES)
def test_a_study_is_a_short_declaration_of_what_it_compares(reference: str) -> None:
    study = load(reference)
    assert digest(describe(study)) == digest(describe(load(reference)))
    assert study.name == reference.rpartition("/")[2].replace(".py", "").replace(":", "-")
    assert study.title
    assert len(study.hypothesis.split()) > 15
    baseline, *rivals = study.configurations
    assert study.baseline == baseline.name and baseline.prediction is None
    assert any(rival.prediction for rival in rivals)
    if file_of(reference) in RUN_ON_TWO_CORES:
        assert (study.tuning_runs, study.trials, study.seeds) == (10, 40, 40)
        assert all(10 * len(space) <= study.trials for space in tuned(study).values()), "the report would warn"
    else:
        assert study.tuning_runs == (1 if "_published" in reference else 3)
    assert study.seeds % study.tuning_runs == 0, "every tuning run has the same number of reruns"
    lines = Path(reference.partition(".py")[0] + ".py").read_text().splitlines()
    assert len(lines) < 70
    words = ("class", "if", "lambda") if file_of(reference) in WITH_OWN_PARTS else ("def", "class", "if", "lambda")
    assert not [line for line in lines if line.split()[:1] in [[word] for word in words]]


def new_parts() -> dict[str, set[str]]:
    """Study -> its configurations with an optimizer and a regularizer that no earlier study has on its kind of data.

    The studies of the sources of images are all tried, each with one rival at least.
    """
    seen: set[tuple[Any, ...]] = set()
    parts: dict[str, set[str]] = {}
    for reference in REFERENCES:
        study = load(reference)
        if file_of(reference) in IMAGE_SOURCES:
            parts[reference] = {study.baseline}
        for entry in describe(study)["configurations"]:
            kind = (type(study.model), type(study.data) in (Table, Tales, ImageFolder), study.data.task)
            part = (*kind, str(entry["optimizer"]), entry["regularizer"])
            deep = isinstance(study.model, ResNet) and study.model.depth >= 50
            if deep or isinstance(study.model, WideResNet | PyramidNet | VGG):
                part = (*kind, deep)  # tried with one rival
            if part not in seen:
                seen.add(part)
                parts.setdefault(reference, {study.baseline}).add(entry["name"])
    return parts


NEW_PARTS = new_parts()
NARROW: dict[type, dict[str, Any]] = {
    ResNet: {"width": 4},
    WideResNet: {"depth": 10, "widen": 1, "width": 4},
    PyramidNet: {"depth": 11, "alpha": 6, "width": 4},
    VGG: {"depth": 11, "width": 4, "hidden": 8},
}


def small(study: Study, names: set[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The comparison of some configurations with little data, a narrow network, one epoch and few trials and seeds.

    One model at a time for images: convolutions side by side are slow on few cores.
    """
    data: Any = study.data
    if isinstance(data, Cifar10 | Cifar100):
        cifar_archives.publish(monkeypatch, folder, data.archive, 4 if isinstance(data, Cifar10) else 20)
        changes: dict[str, Any] = {"data": dataclasses.replace(data, folder=folder), "batch_size": 18}
        changes |= {"trials": 1, "seeds": 1}
        changes["model"] = dataclasses.replace(study.model, **NARROW[type(study.model)])
    elif isinstance(data, ImageFolder):
        images = image_folder(folder / "imagenet")  # 40 JPEGs
        changes = {"data": dataclasses.replace(data, path=images, size=32, resize=36, validation=0.2, processes=1)}
        changes |= {"batch_size": 8, "trials": 1, "seeds": 1, "model": dataclasses.replace(study.model, width=4)}
    elif isinstance(data, Tales):
        changes = {"data": Tales(length=12, characters=1200), "batch_size": 8, "trials": 2, "seeds": 2}
        changes["model"] = CharLM(Tales.vocabulary, length=12, width=8, heads=2, blocks=1)
    else:
        assert isinstance(data, Mnist1d | Digits | Table)
        assert isinstance(study.model, MLP)
        changes = {"data": dataclasses.replace(data, samples=250) if isinstance(data, Mnist1d) else data}
        changes |= {"batch_size": 32, "trials": 2, "seeds": 2}
        changes["model"] = MLP((study.model.widths[0], 8, 8, study.model.widths[-1]))
    if len(names) == 1:
        names = names | {study.configurations[1].name}
    configurations = [
        dataclasses.replace(entry, trials=None, against=[name for name in entry.against if name in names])
        for entry in study.configurations
        if entry.name in names
    ]
    changes |= {"epochs": 1, "tuning_epochs": None, "tuning_runs": 1, "configurations": configurations}
    return dataclasses.replace(study, **changes)


@pytest.mark.parametrize("reference", NEW_PARTS, ids=[NAMES[REFERENCES.index(reference)] for reference in NEW_PARTS])
def test_every_part_runs_from_end_to_end(
    reference: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPO_CACHE", str(cache))
    study = small(load(reference), NEW_PARTS[reference], tmp_path, monkeypatch)
    readme = notebooks.run(study, f"sqlite:///{tmp_path}/hpo.db", "cpu", reports=tmp_path / "reports").report
    assert readme == tmp_path / "reports" / study.name / "README.md"
    results = json.loads((readme.parent / "results.json").read_text())
    assert [entry["name"] for entry in results["configurations"]] == [entry.name for entry in study.configurations]
    for entry in results["configurations"]:
        task = TASKS[study.data.task]
        values = entry["reruns"]["test_metrics"][f"test_{task.primary}"].values()
        assert len(values) == study.seeds and all(math.isfinite(value) for value in values)
        assert task.primary not in SHARES or all(0 <= value <= 1 for value in values)
    if study.data.task == "regression":
        assert "accuracy" not in readme.read_text().lower()


def bounds(definition: dict[str, Any], configuration: str) -> dict[str, tuple[float, float, bool]]:
    """(low, high, whether logarithmic) of every tuned hyperparameter of a configuration."""
    space = next(entry["space"] for entry in definition["configurations"] if entry["name"] == configuration)
    return {name: (entry["low"], entry["high"], entry["log"]) for name, entry in space.items() if type(entry) is dict}


ADAMW = {"learning_rate": (1e-4, 1e-2, True), "weight_decay": (1e-6, 1e-1, True)}
ROGC = ADAMW | {"weight_decay": (1e-6, 1e-2, True)}
MNIST1D = {"kind": "Mnist1d", "generator_seed": 42, "augmented": False, "validation": 0.2}
NOISY = {"samples": 4000, "label_noise": 0.2, "noise": "symmetric", "split": "last"}
CLEAN = {"samples": 4000, "label_noise": 0.0, "split": "last"}
# Study -> (trials, seeds, tuning epochs, epochs, batch size, score epoch), data, and the tuned ranges.
PUBLISHED: dict[str, tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]] = {
    "gnvr_published": (
        (20, 5, 15, 30, 64, "best"), NOISY, {"Baseline": ADAMW, "GNVR": ADAMW | {"lambda": (1e-3, 10, True)}},
    ),
    "sgsc_published": (  # as published, except for the validation split
        (20, 3, 10, 50, 128, "last"), {"samples": 5000, "label_noise": 0.0, "split": "random"},
        {"Adam": (rate := {"learning_rate": (1e-4, 1e-2, True)}), "SGSC": rate | {"gamma": (0, 3, False)}},
    ),
    **{f"rogc_published:{variant}": (
        (20, 3, 15, 30, 64, "best"), data, {
            "Baseline": ROGC,
            "Global clipping": ROGC | {"clip": (0.1, 10, True)},
            "Sample clipping": ROGC | {"clip": (0.1, 10, True)},
            "ROGC": ROGC | {"k": (0, 5, False)},
        },
    ) for variant, data in (("clean", CLEAN), ("noisy", NOISY))},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_protocol_number_by_number(name: str) -> None:
    protocol, data, ranges = PUBLISHED[name]
    definition, study = described(name), load(REFERENCES[NAMES.index(name)])
    numbers = (study.trials, study.seeds, study.tuning_epochs, study.epochs, study.batch_size, study.score_epoch)
    assert numbers == protocol and study.score == "validation_accuracy"
    assert definition["data"] == MNIST1D | data
    assert definition["model"] == {"kind": "MLP", "widths": [40, 256, 256, 10]}
    assert {entry["name"]: bounds(definition, entry["name"]) for entry in definition["configurations"]} == ranges


def test_the_methods_of_the_published_studies() -> None:
    sgsc, rogc = described("sgsc_published")["configurations"], described("rogc_published:clean")["configurations"]
    assert [(entry["optimizer"], entry["trials"], entry["space"]["weight_decay"]) for entry in sgsc] == [
        ("adam", 15, 0), ("adam", None, 0),
    ]  # fmt: skip
    assert [entry["regularizer"] for entry in rogc] == ["none", "clip_global", "clip_sample", "rogc"]
    assert {entry["optimizer"] for entry in rogc} == {"adamw"}
    gvr = [entry["regularizer"] for entry in described("gvr:clean")["configurations"]]
    assert gvr == ["none", *["gvr(blocks.6, blocks.7, linear)"] * 2], "the penalty is over its authors' layers"


@pytest.mark.parametrize(("variant", "smoothing"), [("cifar10", 0.1 / 0.9), ("cifar100", 0.1 / 0.99)])
def test_gam_smooths_labels_as_its_authors_do(variant: str, smoothing: float) -> None:
    """They use 0.1 in another formula: see `test_losses.test_smoothing_as_in_the_code_of_sam_and_gam`."""
    study = load(f"{STUDIES / 'gam.py'}:{variant}")
    assert study.label_smoothing == pytest.approx(smoothing, rel=1e-12)


# The same methods over other layers and samples or with other steps.
VARIANTS = {"asam", "gam_paper", "gam_adaptive", "gvr_independent"}


def test_the_shootout_contains_every_method() -> None:
    definition = described("shootout:noise20")
    assert {entry["regularizer"] for entry in definition["configurations"]} == set(REGULARIZERS) - VARIANTS
    assert {entry["optimizer"] for entry in definition["configurations"]} == {"adamw"}
    authors = {"GAM": {"rho_prime", "alpha", "beta"}}  # fixed, since 40 trials are few for all of its five
    for entry in definition["configurations"]:
        hyperparameters = REGULARIZERS[entry["regularizer"]].hyperparameters.keys() - authors.get(entry["name"], set())
        assert bounds(definition, entry["name"]).keys() == ADAMW.keys() | hyperparameters
