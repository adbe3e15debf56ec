"""What importing a part of the package loads; who may import whom is `lint-imports`' to say, by pyproject.toml."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import hpo

ROOT = Path(hpo.__file__).parent
HEAVY = ("torch", "optuna", "pandas", "plotly", "matplotlib", "scipy", "sqlalchemy", "mnist1d")
GPU_ONLY = {"hpo.optim.adam_triton"}  # needs Triton
MODULES = [found.name for found in pkgutil.walk_packages([str(ROOT)], "hpo.")]


def loaded(module: str) -> set[str]:
    """The heavy packages in a fresh interpreter after importing a module."""
    program = f"import json, sys, {module}; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["hpo", "hpo.cli"])
def test_nothing_heavy_is_loaded_before_it_is_needed(module: str) -> None:
    assert loaded(module) == set()


def test_packages_by_themselves_load_nothing_heavy() -> None:
    packages = ["study", "training", "worker", "analysis", "gradients", "optim", "user_code", "storage", "dashboard"]
    assert loaded(", ".join(f"hpo.{package}" for package in packages)) == set()


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("hpo.training.loop, hpo.study.definition", {"optuna", "sqlalchemy", "pandas", "plotly", "matplotlib"}),
        ("hpo.analysis.compute, hpo.report, hpo.worker.loop, hpo.worker.sampler, hpo.storage.optuna.mirror", {"torch"}),
    ],
)
def test_what_is_really_loaded(module: str, forbidden: set[str]) -> None:
    assert loaded(module) & forbidden == set()


IMPORT_EACH_FIRST = """
import importlib, sys
for module in sys.argv[1:]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "hpo"]:
        del sys.modules[name]
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(module, error)
"""


def test_every_module_can_be_the_first_one_imported() -> None:
    """No two wait for one another: whichever comes first, the others follow."""
    modules = [name for name in MODULES if name not in GPU_ONLY | {"hpo.__main__"}]
    assert "hpo.analysis.metric" in modules
    command = [sys.executable, "-c", IMPORT_EACH_FIRST, *modules]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert done.stdout == ""


def test_every_public_name_is_there() -> None:
    for name in hpo.__all__:
        assert getattr(hpo, name) is not None
    assert set(dir(hpo)) == set(hpo.__all__)
    with pytest.raises(AttributeError, match="module 'hpo' has no attribute 'Nonsense'"):
        _ = hpo.Nonsense
