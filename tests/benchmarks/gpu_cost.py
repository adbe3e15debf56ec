"""What the studies of images cost on one GPU, from operations that hpo counts: `gpu_cost.py --tera 50 --price 3`.

An epoch of one model takes, for every training sample, three forward passes for each gradient evaluation of a step (a
backward pass takes about two), and one forward pass for every validation sample. The operations of a forward pass are
counted with the study's own network; the gradient evaluations with its own regularizer, on a narrow ResNet-18. Loading
and augmenting images and elementwise operations are not counted. What a GPU really reaches, `--tera`, is MFLOP ×
model-steps/s of `hpo bench --model resnet18 --batch-size 128 --device cuda`, divided by a million.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from hpo import Cifar10, Configuration, ResNet, Source, Study
from hpo.study.loading import load, variants
from hpo.training.operation_counter import OperationCounter
from hpo.worker.trainer import Trainer

STUDIES = Path(__file__).parents[2] / "studies"
FILES = ("sam", "vasso", "gam", "gvr")
TRAINING_IMAGES = {"Cifar10": 50_000, "Cifar100": 50_000, "ImageFolder": 1_281_167}  # ImageNet's, ILSVRC 2012
COUNTED: dict[str, float] = {}
PASSES_PER_GRADIENT = 3  # forward passes that one forward and backward pass take


@dataclass(frozen=True)
class RandomImages(Cifar10):
    """As many images of noise as one step needs."""

    def load(self) -> Source:
        images, labels = torch.randn(200, 3, 32, 32), torch.arange(200) % 10
        return Source(images[:160], labels[:160], images[160:], labels[160:], 10)


def references() -> Iterator[str]:
    """`sam`, `vasso:cifar10`, …: the studies that need a GPU."""
    for name in FILES:
        yield from (f"{name}{variant and f':{variant}'}" for variant in variants(STUDIES / f"{name}.py") or ("",))


def forward_operations(study: Study) -> float:
    """Floating-point operations of one sample's forward pass: two for a multiplication and an addition."""
    size = getattr(study.data, "size", 32)
    with torch.device("meta"), OperationCounter() as counter:
        study.model()(torch.empty(2, 3, size, size))
    return counter.operations / 2


def gradient_evaluations(regularizer: object) -> float:
    """Those of a step with 128 samples; counted once for each name."""
    name = str(getattr(regularizer, "name", regularizer))
    if name not in COUNTED:
        COUNTED[name] = _count(regularizer)
    return COUNTED[name]


def _count(regularizer: object) -> float:
    entries = (Configuration("A", "sgd", regularizer), Configuration("B", "sgd"))
    study = Study(RandomImages(validation=0.2), ResNet(18, 10, width=1), entries, "B", batch_size=128, epochs=1)
    trainer = Trainer(study, "cpu")
    return trainer.try_once("A", trainer.setting_to_try("A", {}), 0, None).final["gradient_evaluations"]


def operations(study: Study, configuration: Configuration) -> float:
    """Those of all epochs of one run."""
    images, kept = TRAINING_IMAGES[type(study.data).__name__], study.data.validation
    per_image = (1 - kept) * PASSES_PER_GRADIENT * gradient_evaluations(configuration.regularizer) + kept
    return study.epochs * images * per_image * forward_operations(study)


def row(name: str, tera: float, price: float) -> str:
    """The row of one study, in Markdown.

    Args:
        tera: operations a second that training reaches, in 10¹². price: of an hour.
    """
    file, _, variant = name.partition(":")
    study = load(f"{STUDIES / file}.py{variant and f':{variant}'}")
    runs = study.trials * (study.tuning_runs or 3) + study.seeds
    total = runs * sum(operations(study, entry) for entry in study.configurations)
    hours = total / tera / 1e12 / 3600
    counts = f"{runs * len(study.configurations)} × {study.epochs} | {forward_operations(study) / 1e9:.2f}"
    return f"| `hpo run {name}` | {counts} | {total / 1e18:,.0f} | {hours:,.0f} | {hours * price:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tera", type=float, required=True, help="operations a second that training reaches, in 10¹²")
    parser.add_argument("--price", type=float, required=True, help="price of an hour")
    options = parser.parse_args()
    print("| command | runs × epochs | GFLOP per image | 10¹⁸ FLOP | hours | price |\n|---|--:|--:|--:|--:|--:|")
    for name in references():
        print(row(name, options.tera, options.price), flush=True)


if __name__ == "__main__":
    main()
