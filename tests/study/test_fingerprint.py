"""Every edit that changes what a study's code does is seen, and none that does not; the same in every process."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpo import load
from hpo.study.fingerprint import fingerprint

# A study of everything that a user may write, over several files: name -> text.
FILES = {
    block.partition("\n")[0]: block.partition("\n")[2]
    for block in (Path(__file__).parent / "edited_study.txt").read_text().split("=== ")[1:]
}
S, B, H = "studies/s.py", "base.py", "lab/helpers.py"

# file, old text, new text, and a name that tells the person where the change is.
SEEN = {
    "constant": (S, "WIDTH = 4", "WIDTH = 32", "model: width"),
    "class behind the model": (S, "return x + 1", "return x + 2", "study file: Net"),
    "base class": (S, 'ACTIVATIONS["net"](self', "torch.tanh(self", "study file: Layer"),
    "class attribute": (S, "slope = 0.5", "slope = 0.6", "study file: Layer"),
    "property": (S, "return 3.0", "return 4.0", "study file: Layer"),
    "closure's value": (S, "make_model(WIDTH)", "make_model(5)", "model: width"),
    "keyword of the factory": (S, "make_model(WIDTH)", "make_model(WIDTH, bias=3)", "model: bias"),
    "default argument": (S, "bias=True", "bias=False", "study file: make_model"),
    "attribute of a loss": (S, "Focal(1.0)", "Focal(5.0)", "loss.gamma"),
    "dict in a loss": (S, "low=0.25", "low=0.26", "study file: Focal"),
    "regularizer": (S, "sample_grad_norms(at)", "sample_grad_norms(at, epsilon=1)", "study file: grads"),
    "regularizer's helper": (S, "norms.mean()", "norms.max()", "study file: sharpness"),
    "constant of the helper": (S, "SHARPNESS = 0.1", "SHARPNESS = 10.0", "study file: SHARPNESS"),
    "init of the regularizer": (S, "functools.partial(dict)", "functools.partial(dict, a=1)", "regularizer of B.init"),
    "views of the regularizer": (S, "partial(dict)", "partial(dict), views=2", "regularizer of B.views"),
    "value in a dict constant": (S, '"slope": 0.1', '"slope": 0.2', "study file: ACTIVATIONS"),
    "function in a dict constant": (S, "torch.relu", "torch.sigmoid", "study file: ACTIVATIONS"),
    "mutated global": (S, "COUNTS[0] += 1", "COUNTS[0] += 2", "study file: COUNTS"),
    "metric": (S, "(outputs.argmax(-1) == labels)", "(outputs.argmin(-1) == labels)", "study file: hits"),
    "lambda in the study": (S, "(outputs.argmax(-1) != labels)", "(outputs.argmin(-1) != labels)", "study file: STUDY"),
    "choice among lambdas of one line": (S, "SCORES[0]", "SCORES[1]", "metric first"),
    "decorator": (S, "@twice\n", "", "study file: hits"),
    "decorator's body": (H, "2 * function", "3 * function", "lab/helpers.py: twice"),
    "schedule": (S, "power=2", "power=3", "study file: falling"),
    "optimizer": (S, "leaf - hyper", "leaf + hyper", "study file: update"),
    "optimizer's init": (S, "lambda params: {}", "lambda params: {'a': 1}", "study file: STUDY"),
    "pruner": (S, "steps=5", "steps=6", "study file: pruner"),
    "data set's method": (S, "return super().load()", "return Blobs.load(self)", "study file: Own"),
    "base class in another file": (B, "arange(3.0)", "arange(4.0)", "base.py: Blobs"),
    "augmentation's helper": (B, "inputs + 0.01", "inputs + 0.02", "base.py: jitter"),
    "constant of another module": (B, "SPREAD = 1.5", "SPREAD = 0.1", "base.py: SPREAD"),
    "set constant": (B, '"g", "h"}', '"g", "i"}', "base.py: NAMES"),
    "constant of a module of a module": (H, "SHIFT = 0.25", "SHIFT = 0.5", "lab/helpers.py: SHIFT"),
    "constant imported by name": (H, "[1.0, 2.0]", "[1.5, 2.0]", "lab/helpers.py: SCALES"),
    "module imported inside a function": ("lab/lazy.py", "LATE = 1.0", "LATE = 2.0", "lab/lazy.py: LATE"),
    "module imported by that one": ("lab/later.py", "LATEST = 1.0", "LATEST = 2.0", "lab/later.py: LATEST"),
    "data file of a constant": ("studies/table.json", "[1.0, 2.0]", "[1.0, 2.5]", "model: Net: Layer.forward: WEIGHTS"),
    "statement without a name": (
        S,
        "class Layer",
        "torch.set_num_threads(1)\n\n\nclass Layer",
        "study file: top-level",
    ),
    "another object of that name": (S, "from base import Blobs", "from lab.other import Blobs", "study file: imports"),
    "package's own code": ("lab/__init__.py", "", "import torch\n", "lab.py: imports"),
}
UNSEEN = {
    "comment": (S, "  # a comment", "  # another comment"),
    "docstring of a class": (S, '"""A layer."""', '"""Another."""'),
    "docstring of a module": (B, '"""Shared parts."""', '"""Parts.\n\nMore.\n"""'),
    "docstring added": (S, "params, hyper):\n    return {", 'params, hyper):\n    """Plain."""\n    return {'),
    "layout": (S, "def make_model(width, bias=True):\n", "def make_model(\n    width,\n\n    bias = (True),\n):\n\n"),
    "quotes and number's spelling": (S, 'dict(low=0.25)', 'dict(low=2.5e-1)'),
    "title": (S, '"A title"', '"Another " + str(3)'),
    "hypothesis": (S, "What is expected", "What was expected"),
    "trials": (S, "trials=2", "trials=3"),
    "seeds": (S, "seeds=2", "seeds=20"),
    "name": (S, "trials=2", 'name="s", tuning_runs=2'),
    "range, which the definition contains": (S, "log_range(1e-3, 1e-1)", "log_range(1e-3, 1)"),
    "another study's space": (S, "class Layer", "SPACE = {'learning_rate': 3}\n\n\nclass Layer"),
    "order and blanks of imports": (S, "import functools\nimport json\n", "import json\n\nimport functools\n"),
    "imports in one": (S, "import functools\nimport json\n", "import functools, json\n"),
}  # fmt: skip


def write(folder: Path, **changes: str) -> None:
    """Writes the study's files into a folder, some of them with another text."""
    for name, text in (FILES | changes).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, str]]]:
    """The fingerprint of the study after an edit, each in a new folder, with nothing imported before."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] in ("base", "lab", "hpo_study_s")]:
            del sys.modules[name]

    def after(file: str = S, old: str = "", new: str = "", name: str = "first", reference: str = "s") -> dict[str, str]:
        assert not old or FILES[file].count(old) == 1, old
        write(tmp_path / name, **{file: FILES[file].replace(old, new) if old else new or FILES[file]})
        forget()
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path / name)
            patch.setattr(sys, "path", [str(tmp_path / name), *sys.path])
            patch.setattr(sys, "dont_write_bytecode", True)
            return fingerprint(load(reference))

    yield after
    forget()


OTHER = "from base import Blobs as Parent\nclass Blobs(Parent):\n    pass\n"


@pytest.mark.parametrize("edit", SEEN)
def test_an_edit_is_seen_and_named(edit: str, prints: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    file, old, new, named = SEEN[edit]
    before = prints()
    write(tmp_path / "second", **{"lab/other.py": OTHER})
    after = prints(file, old, new, name="second")
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert any(name.startswith(named) for name in changed), changed


@pytest.mark.parametrize("edit", UNSEEN)
def test_what_changes_nothing_is_not_seen(edit: str, prints: Callable[..., dict[str, str]]) -> None:
    before, after = prints(), prints(*UNSEEN[edit], name="second")
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set()


SCRIPT = """
import json, sys, hpo
from hpo.study.fingerprint import fingerprint
for _ in range(2):
    print(json.dumps(fingerprint(hpo.load("s"))))
    for name in [name for name in sys.modules if name.split(".")[0] in ("base", "lab", "hpo_study_s")]:
        del sys.modules[name]
"""


def test_the_same_in_every_process_folder_and_order_of_hashing(
    prints: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    """The second load reads compiled files, whose constants are other objects than those of the first."""
    folder = tmp_path / "another/deeper"
    write(folder)
    path = os.pathsep.join([str(folder), *sys.path])
    environment = {**os.environ, "PYTHONHASHSEED": "2", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((folder / "studies/__pycache__").iterdir())
    first, second = map(json.loads, done.stdout.splitlines())
    assert len(first) > 30
    assert first == second == prints()


def test_what_a_study_computes_or_imports_as_it_runs_is_no_edit(
    prints: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prints()
    monkeypatch.chdir(tmp_path / "first")
    monkeypatch.syspath_prepend(tmp_path / "first")
    study = load("s")
    before = fingerprint(study)
    study.data.load(), study.data.means, study.model()
    importlib.import_module("lab.lazy")
    assert "means" in vars(study.data)
    assert fingerprint(study) == before


def test_another_variant_of_the_file_may_change(prints: Callable[..., dict[str, str]]) -> None:
    head = FILES[S].partition("STUDY = Study(")[0]
    text = head + (
        "def variant(data, model, **more):\n    return Study(data=data, model=model, baseline='A', "
        "configurations=(Configuration('A'), Configuration('B')), **more)\n"
        "STUDIES = {'one': variant(Own(), make_model(4)), 'two': variant(Own(), lambda: Net(4))}\n"
    )
    before = prints(S, "", text, reference="s:one")
    edits = [("lambda: Net(4)", "lambda: Net(5)"), ("make_model(4)", "make_model(5)")]
    other, changed = (prints(S, "", text.replace(*edit), "second", "s:one") for edit in edits)
    assert other == before and changed != before
