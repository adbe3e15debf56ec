"""What a process loads before its first training step: PyTorch, and nothing that takes as long again."""

import subprocess
import sys

PROGRAM = """
import sys
import torch
from hpo import MLP
from hpo.optimizers import OPTIMIZERS
from hpo.population import Population
from hpo.regularizers import REGULARIZERS
from hpo.losses import cross_entropy

for models in (1, 2):
    settings = {"learning_rate": 1e-3, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "lambda": 0.1}
    population = Population(
        [MLP((4, 3))() for _ in range(models)], REGULARIZERS["gnvr"], OPTIMIZERS["adamw"],
        {name: torch.full((models,), value) for name, value in settings.items()}, cross_entropy, torch.randn(8, 4),
    )
    population.step(torch.randn(models, 1, 8, 4), torch.zeros(models, 8, dtype=torch.int64))
print(*sorted({"torch._dynamo", "torch._inductor", "sympy", "optuna", "pandas"} & set(sys.modules)))
"""


def test_the_first_step_loads_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
