"""What importing a module loads; which module may import which is checked by `lint-imports` (pyproject.toml)."""

import json
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hpo

ROOT = Path(hpo.__file__).parent
HEAVY = ("torch", "optuna", "pandas", "plotly", "matplotlib", "scipy", "sqlalchemy", "mnist1d")


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


def test_dir_and_help_show_the_public_names() -> None:
    assert set(dir(hpo)) == set(hpo.__all__)
    assert all(getattr(hpo, name) is not None for name in hpo.__all__)
    page = pydoc.plain(pydoc.render_doc(hpo))
    groups = page.partition("DESCRIPTION")[2].partition("`help(hpo.Study)`")[0]
    names = {name for name in re.findall(r"\w+", groups) if hasattr(hpo, name)}
    described = re.findall(r"^    class (\w+)", page, re.MULTILINE)
    described += re.findall(r"^    (\w+)\(", page.partition("\nFUNCTIONS\n")[2], re.MULTILINE)
    described += re.findall(r"^    (\w+) = ", page.partition("\nDATA\n")[2], re.MULTILINE)
    assert names == set(described) - {"TYPE_CHECKING", "__all__"} == set(hpo.__all__) - {"__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'hpo' has no attribute 'Nonsense'"):
        _ = hpo.Nonsense
