"""The project's own studies: what each says, and that each runs from end to end, made small."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import cifar_archives
import pytest

from hpo import MLP, Cifar10, Cifar100, Digits, Mnist1d, ResNet18, Study, api
from hpo.study.definition import describe, digest
from hpo.study.loading import load, variants

PROJECT = Path(__file__).parents[2]
FILES = sorted((PROJECT / "studies").glob("*.py"))
REFERENCES = [f"{path}{variant and f':{variant}'}" for path in FILES for variant in variants(path) or ("",)]
NAMES = [reference.rpartition("/")[2].replace(".py", "") for reference in REFERENCES]

pytestmark = pytest.mark.usefixtures("one_thread")
every_study = pytest.mark.parametrize("reference", REFERENCES, ids=NAMES)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of generated data for all studies."""
    return tmp_path_factory.mktemp("cache")


def test_every_source_has_its_study() -> None:
    expected = {"gnvr", "gnvr_published", "sgsc", "sgsc_published", "gvr", "gvr_mnist1d", "gvr_digits"}
    expected |= {"vasso:cifar10", "vasso:cifar100", "gam:cifar10", "gam:cifar100", "rogc:clean", "rogc:noisy"}
    expected |= {"rogc_published:clean", "rogc_published:noisy", "digits", "weight_decay"}
    expected |= {"sam_family:clean", "sam_family:noise20", "sam_family:noise40", "sam_family:digits"}
    expected |= {"shootout:clean", "shootout:noise20", "shootout:noise40"}
    assert set(NAMES) == expected


@every_study
def test_it_says_what_it_compares(reference: str) -> None:
    study = load(reference)
    described = describe(study)
    assert described == json.loads(json.dumps(described))
    assert digest(described) == digest(describe(load(reference)))
    assert study.name == reference.rpartition("/")[2].replace(".py", "").replace(":", "-")
    assert study.title
    assert len(study.hypothesis.split()) > 15
    baseline, *rivals = study.configurations
    assert study.baseline == baseline.name
    assert baseline.prediction is None
    assert any(rival.prediction for rival in rivals)


@every_study
def test_it_is_tuned_three_times_but_where_a_published_protocol_tuned_once(reference: str) -> None:
    study = load(reference)
    assert study.tuning_runs == (1 if "_published" in reference else 3)
    assert study.seeds % study.tuning_runs == 0, "every tuning run has as many reruns"


@every_study
def test_it_is_short_and_holds_no_logic(reference: str) -> None:
    lines = Path(reference.partition(".py")[0] + ".py").read_text().splitlines()
    assert len(lines) < 60
    assert not [line for line in lines if line.split()[:1] in (["def"], ["class"], ["if"], ["lambda"])]


def small(study: Study, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The same comparison with little data, a narrow network, one epoch and one or two trials and seeds.

    One at a time for images: convolutions side by side are slow on few cores, and populations have their own tests.
    """
    data: Any = study.data
    if isinstance(data, Cifar10 | Cifar100):
        count = 4 if isinstance(data, Cifar10) else 20  # 18 images to train on
        cifar_archives.publish(monkeypatch, folder, data.archive, count)
        changes: dict[str, Any] = {
            "data": dataclasses.replace(data, folder=folder),
            "batch_size": 18,
            "trials": 1,
            "seeds": 1,
            "tuning_runs": 1,
        }
        assert isinstance(study.model, ResNet18)
        changes["model"] = dataclasses.replace(study.model, width=4)
    else:
        assert isinstance(data, Mnist1d | Digits)
        assert isinstance(study.model, MLP)
        changes = {"data": dataclasses.replace(data, samples=250) if isinstance(data, Mnist1d) else data}
        changes |= {"batch_size": 32, "trials": 2, "seeds": 2, "tuning_runs": 1}
        changes["model"] = MLP((study.model.widths[0], 8, study.model.widths[-1]))
    configurations = [dataclasses.replace(entry, trials=None) for entry in study.configurations]
    changes |= {"epochs": 1, "tuning_epochs": None, "configurations": configurations}
    return dataclasses.replace(study, **changes)


@every_study
def test_it_runs_from_end_to_end(reference: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_CACHE", str(cache))
    study = small(load(reference), tmp_path, monkeypatch)
    readme = api.run(study, f"sqlite:///{tmp_path}/hpo.db", "cpu", reports=tmp_path / "reports")
    assert readme == tmp_path / "reports" / study.name / "README.md"
    results = json.loads((readme.parent / "results.json").read_text())
    assert [entry["name"] for entry in results["configurations"]] == [entry.name for entry in study.configurations]
    for entry in results["configurations"]:
        assert len(entry["reruns"]["test_accuracy"]) == study.seeds
        assert all(0 <= accuracy <= 1 for accuracy in entry["reruns"]["test_accuracy"].values())


def bounds(described: dict[str, Any], configuration: str) -> dict[str, tuple[float, float, bool]]:
    """(low, high, whether logarithmic) of every tuned hyperparameter of a configuration."""
    space = next(entry["space"] for entry in described["configurations"] if entry["name"] == configuration)
    return {
        name: (entry["low"], entry["high"], entry["log"]) for name, entry in space.items() if isinstance(entry, dict)
    }


ADAMW = {"learning_rate": (1e-4, 1e-2, True), "weight_decay": (1e-6, 1e-1, True)}
MNIST1D = {"kind": "Mnist1d", "generator_seed": 42, "augmented": False, "validation": 0.2}


def test_gnvr_number_by_number() -> None:
    """As in the published GNVR script."""
    study = load(str(PROJECT / "studies" / "gnvr_published.py"))
    described = describe(study)
    assert (study.trials, study.seeds, study.tuning_epochs, study.epochs, study.batch_size) == (20, 5, 15, 30, 64)
    assert (study.score, study.score_epoch) == ("validation_accuracy", "best")
    noisy = {"samples": 4000, "label_noise": 0.2, "noise": "symmetric", "split": "last"}
    assert described["data"] == MNIST1D | noisy
    assert described["model"] == {"kind": "MLP", "widths": [40, 256, 256, 10]}
    assert bounds(described, "Baseline") == ADAMW
    assert bounds(described, "GNVR") == ADAMW | {"lambda": (1e-3, 10, True)}


def test_sgsc_number_by_number() -> None:
    """As in the published experiment, but for the validation part."""
    study = load(str(PROJECT / "studies" / "sgsc_published.py"))
    described = describe(study)
    assert (study.trials, study.seeds, study.tuning_epochs, study.epochs, study.batch_size) == (20, 3, 10, 50, 128)
    assert [entry["trials"] for entry in described["configurations"]] == [15, None]
    assert [entry["optimizer"] for entry in described["configurations"]] == ["adam", "adam"]
    assert described["data"] == MNIST1D | {"samples": 5000, "label_noise": 0.0, "split": "random"}
    assert study.score == "validation_accuracy"
    rate = {"learning_rate": (1e-4, 1e-2, True)}
    assert bounds(described, "Adam") == rate
    assert bounds(described, "SGSC") == rate | {"gamma": (0, 3, False)}
    assert all(entry["space"]["weight_decay"] == 0 for entry in described["configurations"])


@pytest.mark.parametrize(("variant", "noise"), [("clean", 0.0), ("noisy", 0.2)])
def test_rogc_number_by_number(variant: str, noise: float) -> None:
    """As in the published ROGC script."""
    study = load(f"{PROJECT / 'studies' / 'rogc_published.py'}:{variant}")
    described = describe(study)
    assert (study.trials, study.seeds, study.tuning_epochs, study.epochs, study.batch_size) == (20, 3, 15, 30, 64)
    assert (study.score, study.score_epoch) == ("validation_accuracy", "best")
    published = {"samples": 4000, "label_noise": noise, "noise": "symmetric", "split": "last"}
    assert described["data"] == MNIST1D | {key: published[key] for key in published if noise or key != "noise"}
    assert described["model"] == {"kind": "MLP", "widths": [40, 256, 256, 10]}
    regularizers = [entry["regularizer"] for entry in described["configurations"]]
    assert regularizers == ["none", "clip_global", "clip_sample", "rogc"]
    assert {entry["optimizer"] for entry in described["configurations"]} == {"adamw"}
    both = ADAMW | {"weight_decay": (1e-6, 1e-2, True)}
    assert bounds(described, "Baseline") == both
    for name in ("Global clipping", "Sample clipping"):
        assert bounds(described, name) == both | {"clip": (0.1, 10, True)}
    assert bounds(described, "ROGC") == both | {"k": (0, 5, False)}


@pytest.mark.parametrize(("variant", "smoothing"), [("cifar10", 0.1 / 0.9), ("cifar100", 0.1 / 0.99)])
def test_gam_smooths_labels_as_its_authors_do(variant: str, smoothing: float) -> None:
    """Theirs of 0.1: see `test_losses.test_smoothing_as_in_the_code_of_sam_and_gam`."""
    study = load(f"{PROJECT / 'studies' / 'gam.py'}:{variant}")
    assert study.label_smoothing == pytest.approx(smoothing, rel=1e-12)


def test_gvrs_penalty_is_over_its_authors_layers() -> None:
    described = describe(load(str(PROJECT / "studies" / "gvr.py")))
    regularizers = [entry["regularizer"] for entry in described["configurations"]]
    assert regularizers == ["none", *["gvr(blocks.6, blocks.7, linear)"] * 2]


# Of the same methods, over other layers and samples or with other steps.
VARIANTS = {"asam", "gam_paper", "gam_adaptive", "gvr_independent"}


def test_the_shootout_leaves_no_method_out() -> None:
    from hpo.optim.regularizers import REGULARIZERS

    described = describe(load(f"{PROJECT / 'studies' / 'shootout.py'}:noise20"))
    assert {entry["regularizer"] for entry in described["configurations"]} == set(REGULARIZERS) - VARIANTS
    assert {entry["optimizer"] for entry in described["configurations"]} == {"adamw"}
    for entry in described["configurations"]:
        own = REGULARIZERS[entry["regularizer"]].hyperparameters
        assert bounds(described, entry["name"]).keys() == ADAMW.keys() | own.keys()
