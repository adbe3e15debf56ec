"""Training by several processes: the cases, and the program that `torchrun` starts in each of them."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from populations import middle
from torch import Tensor, nn

from hpo import ImageFolder, whole
from hpo.data import Dataset, Source, load_source
from hpo.errors import UsageError
from hpo.gradients.objective import Objective
from hpo.gradients.shares import Share
from hpo.models import MLP, ConvNet1d
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS, gvr_over
from hpo.random import normal
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe
from hpo.tree import Tree

FEATURES, CLASSES, BATCH = 8, 3, 8
SGD = {"learning_rate": 0.1, "weight_decay": 1e-3, "momentum": 0.9}


@dataclass(frozen=True)
class Clouds(Dataset):
    """Three overlapping clouds, which are augmented."""

    def load(self) -> Source:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(51) % CLASSES
        inputs = torch.randn(51, FEATURES, generator=generator, dtype=torch.float64)
        inputs[:, 0] += 2 * labels
        return Source(inputs[:40], labels[:40], inputs[40:], labels[40:], CLASSES)

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        return inputs + 0.1 * normal(keys[:, None], torch.arange(FEATURES)).to(inputs.dtype)


def grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    """Uses what the built-in regularizers do not: inputs, labels, outputs, single gradients, several derivatives."""

    def penalty(at: Tree) -> Tensor:
        outputs, part = objective.outputs(at), objective.subset(slice(2, 6))
        sizes = objective.inputs("clean").square().mean(1) + objective.labels
        entropy = (sizes * torch.logsumexp(outputs, 1)).var()
        return hyper["strength"] * (entropy + part.loss(at) ** 2 + objective.sample_grad_norms(at, epsilon=1e-3).max())

    gradient, value = objective.penalised_grad(params, penalty)
    _, product = torch.func.jvp(objective.grad, (params,), (gradient,))
    singles = objective.sample_grads(params)
    noise = objective.random.normal(params)
    signal = {name: leaf.mean(0) ** 2 / (leaf.var(0) + 1) + 1e-3 * noise[name] for name, leaf in singles.items()}
    result = {name: leaf + 0.01 * product[name] + signal[name] for name, leaf in gradient.items()}
    return result, state, {"penalty": value}


CUSTOM = Regularizer("custom", grads, {"strength": 0.1}, clean_view=True)


class Case(NamedTuple):
    model: Callable[[], nn.Module]
    regularizer: Regularizer
    members: int = 2
    changes: Mapping[str, Any] = {}
    data: Mapping[str, Any] = {}


def mlp() -> nn.Module:
    return MLP((FEATURES, 6, CLASSES), dropout=0.2)().double()


def convolutional() -> nn.Module:
    return ConvNet1d(FEATURES, CLASSES, channels=4, norm="batch")().double()


class RunningMean(nn.Module):
    """Keeps a statistic that each process would compute from other samples."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, CLASSES).double()
        self.register_buffer("seen", torch.zeros(FEATURES, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.seen = 0.9 * self.seen + 0.1 * inputs.detach().mean(0)
        return self.linear(inputs)


class Centred(nn.Module):
    """Mixes the samples of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, CLASSES).double()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs - inputs.mean(0))


def spread(outputs: Tensor, labels: Tensor) -> float:
    """A metric of a whole set."""
    return float(outputs.std() + labels.double().std())


def cases() -> dict[str, Case]:
    names = ("none", "sam", "gam", "vasso", "gnvr", "sgsc", "clip_sample", "rogc")
    chosen = {name: Case(mlp, REGULARIZERS[name]) for name in names}
    chosen |= {f"{name}, BatchNorm": Case(convolutional, REGULARIZERS[name]) for name in ("gam", "gvr")}
    chosen |= {
        "gvr, subsets": Case(mlp, gvr_over(samples=4, independent=True)),
        "gnvr, one model": Case(mlp, REGULARIZERS["gnvr"], 1),
        "sam, BatchNorm, one model": Case(convolutional, REGULARIZERS["sam"], 1),
        "custom regularizer": Case(mlp, CUSTOM),
        "micro-batches": Case(convolutional, REGULARIZERS["sam"], changes={"accumulate": 2}),
        "mixup": Case(mlp, REGULARIZERS["sam"], data={"mixup": 0.4}),
        "incomplete batch, metric of whole sets": Case(
            mlp, REGULARIZERS["none"], changes={"last_batch": "keep", "metrics": {"spread": whole(spread)}}
        ),
    }
    return chosen


def image_results(folder: Path, share: Share) -> list[dict[str, Any]]:
    """As `results`, of images in the files of a folder, in float32."""
    data = ImageFolder(folder, size=12, validation=0.25, processes=1)

    def network() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 5 * 5, 2))

    recipe = Recipe(data, load_source(data), network, REGULARIZERS["sam"], OPTIMIZERS["sgd"], epochs=2, batch_size=8)
    members = [Member(seed, SGD | {"rho": 0.05, "learning_rate": 0.01}) for seed in (0, 1, 0)]
    return [{"curves": result.curves, "final": result.final} for result in train(recipe, members, share=share)]


REFUSED = {
    "buffer of samples": Case(RunningMean, REGULARIZERS["none"]),
    "unequal subset": Case(mlp, gvr_over(samples=3)),
    "mixed samples": Case(Centred, REGULARIZERS["none"]),
}


def error_of(case: Case, share: Share) -> str:
    """The sentence that a case is refused with; "" if it is not."""
    try:
        results(case, share)
    except UsageError as error:
        return str(error)
    return ""


def results(case: Case, share: Share) -> list[dict[str, Any]]:
    """The curves and final metrics of every member."""
    data = Clouds(label_noise=0.2, validation=14 / 40, **case.data)
    parts = {"regularizer": case.regularizer, "optimizer": OPTIMIZERS["sgd"], "epochs": 2, "batch_size": BATCH}
    recipe = Recipe(data, data.load(), case.model, **(parts | dict(case.changes)))
    members = [Member(seed, SGD | middle(case.regularizer, 1 - 0.2 * seed)) for seed in range(case.members)]
    trained = train(recipe, members, test=True, share=share)
    return [{"curves": result.curves, "final": result.final} for result in trained]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    share = Share(dist.get_rank(), dist.get_world_size())
    found: dict[str, Any] = {name: results(case, share) for name, case in cases().items()}
    found |= {name: error_of(case, share) for name, case in REFUSED.items()}
    found["images"] = image_results(folder / "images", share)
    (folder / f"{share.rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
