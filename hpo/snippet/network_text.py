"""The network as Python: its layers where it is a plain sequence of them, else the source of its function."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hpo.models.dropout import Dropout
from hpo.random import stream, training_names
from hpo.snippet.extraction import Extraction, check_names
from hpo.training.initial_models import build

NUMPY_SEEDS = 2**32
TENSORS_AND_LAYERS = ("_parameters", "_buffers", "_modules")


def network_text(model: Callable[[], nn.Module], code: Extraction) -> str:
    """The function `initial_network`, which gives a seed the same initial weights as hpo."""
    layers = _layers(model)
    if layers is None:
        expression = f"{code.call('the model', model)}()"
        check_names("the model", expression, ["seed"])
        code.imports |= dict.fromkeys(["import random", "import numpy as np"])
        seeds = ["random.seed(seed)", f"np.random.seed(seed % {NUMPY_SEEDS})", "torch.manual_seed(seed)"]
    else:
        code.imports["from collections import OrderedDict"] = None
        expression = f"nn.Sequential(OrderedDict([\n        {layers}\n    ]))"
        seeds = ["torch.manual_seed(seed)"]
    lines = [
        'seed = stream(SEED, "training", "initial weights").initial_seed()',
        *seeds,
        f"return {expression}.to(DTYPE)",
    ]
    return 'def initial_network():\n    """The network with the initial weights of the seed."""\n    ' + "\n    ".join(
        lines
    )


def _layers(model: Callable[[], nn.Module]) -> str | None:
    """The layers of a plain sequence, each as it shows itself; None where that does not build the same network."""
    network = build(model, 0)
    if type(network) is not nn.Sequential:
        return None
    shown = {name: _shown(layer) for name, layer in network._modules.items()}  # `children` has a shared layer once
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(0, *training_names(), "initial weights").initial_seed())
            layers = {name: eval(text, {"nn": nn, "torch": torch}) for name, text in shown.items()}
        same = _are_same(network, nn.Sequential(OrderedDict(layers)))
    except Exception:  # what a layer shows need not be Python, nor its attributes comparable
        return None
    return ",\n        ".join(f'("{name}", {text})' for name, text in shown.items()) + "," if same else None


def _are_same(network: nn.Sequential, other: nn.Sequential) -> bool:
    """Whether two sequences have the same tensors, and layers with the same attributes, of which some are not shown."""
    one_state, other_state = (
        {**dict(each.named_parameters()), **dict(each.named_buffers())} for each in (network, other)
    )
    return (
        one_state.keys() == other_state.keys()  # a shared parameter has one name
        and all(torch.equal(other_state[name].to(value.dtype), value) for name, value in one_state.items())
        and all(
            type(one) is Dropout or _attributes(one) == _attributes(same)
            for one, same in zip((network, *network), (other, *other), strict=True)
        )
    )


def _attributes(module: nn.Module) -> dict[str, Any]:
    """All but parameters, buffers and layers: arguments, hooks, a method that was replaced."""
    return {name: value for name, value in vars(module).items() if name not in TENSORS_AND_LAYERS}


def _shown(layer: nn.Module) -> str:
    if type(layer) is Dropout:
        return f"nn.Dropout(p={layer.p})"
    if any(layer.children()) or not type(layer).__module__.startswith("torch.nn."):
        return ""
    return f"nn.{layer!r}"
