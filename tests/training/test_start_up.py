"""A process loads PyTorch before its first training step, and no other slow package."""

import subprocess
import sys

FIRST_STEPS = """
import sys
import torch
from hpo import MLP
from hpo.models.losses import cross_entropy
from hpo.optim.optimizers import OPTIMIZERS
from hpo.training.population import Population
from hpo.optim.regularizers import REGULARIZERS

for models in (1, 2):
    hyperparameters = OPTIMIZERS["adamw"].hyperparameters | REGULARIZERS["gnvr"].hyperparameters
    population = Population(
        [MLP((4, 3))() for _ in range(models)], REGULARIZERS["gnvr"], OPTIMIZERS["adamw"],
        {name: torch.full((models,), 0.1) for name in hyperparameters}, cross_entropy, torch.randn(8, 4),
    )
    population.step(torch.randn(models, 1, 8, 4), torch.zeros(models, 8, dtype=torch.int64))
"""
WHAT_IS_LOADED = """
print(*sorted({"torch._dynamo", "torch._inductor", "sympy", "optuna", "pandas"} & set(sys.modules)))
"""
COMPILING = """
double = torch.compile(lambda x: 2 * x, backend="eager", fullgraph=True)
assert double(torch.ones(3)).tolist() == [2, 2, 2]
assert torch._dynamo is sys.modules["torch._dynamo"]
population.step(torch.randn(2, 1, 8, 4), torch.zeros(2, 8, dtype=torch.int64))
assert all(leaf.isfinite().all() for leaf in population.params.values())
"""


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_the_first_step_loads_no_compiler() -> None:
    assert run(FIRST_STEPS + WHAT_IS_LOADED).split() == []


def test_the_compiler_can_be_used_afterwards() -> None:
    loaded = run(FIRST_STEPS + COMPILING + WHAT_IS_LOADED).split()
    assert {"torch._dynamo", "sympy"} <= set(loaded)
