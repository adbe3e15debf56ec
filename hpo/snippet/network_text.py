"""The network as Python: its layers where it is a plain sequence of them, else the source of its function."""

from collections.abc import Callable

import torch
from torch import nn

from hpo.models.dropout import Dropout
from hpo.random import stream, training_names
from hpo.snippet.extraction import Extraction
from hpo.training.initial_models import build

NUMPY_SEEDS = 2**32


def network_text(model: Callable[[], nn.Module], code: Extraction) -> str:
    """The function `initial_network`, which gives a seed the same initial weights as hpo."""
    layers = _layers(model)
    if layers is None:
        expression = f"{code.call('the model', model)}()"
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
    shown = {name: _shown(layer) for name, layer in network.named_children()}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(0, *training_names(), "initial weights").initial_seed())
            again = {name: eval(text, {"nn": nn, "torch": torch}) for name, text in shown.items()}
    except Exception:  # what a layer shows need not be Python
        return None
    made = nn.Sequential()
    for name, layer in again.items():
        made.add_module(name, layer)
    states = made.state_dict(), network.state_dict()
    same = states[0].keys() == states[1].keys() and all(
        torch.equal(value.to(states[1][name].dtype), states[1][name]) for name, value in states[0].items()
    )
    return ",\n        ".join(f'("{name}", {text})' for name, text in shown.items()) + "," if same else None


def _shown(layer: nn.Module) -> str:
    if isinstance(layer, Dropout):
        return f"nn.Dropout(p={layer.p})"
    if any(layer.children()) or not type(layer).__module__.startswith("torch.nn."):
        return ""
    return f"nn.{layer!r}"
