"""Who may import whom, held over the syntax trees of the package: imports inside functions count as well."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpo

ROOT = Path(hpo.__file__).parent

# What a module of the numerics may import of the package, from the ground up.
GROUND = {"hpo.dispatch", "hpo.errors", "hpo.user_code.messages", "hpo.search_space", "hpo.errors"}
# What finds out what user code reaches, changes and draws.
GROUND |= {
    "hpo.user_code.generators",
    "hpo.user_code.python_state",
    "hpo.user_code.reachable",
    "hpo.user_code.calls",
    "hpo.user_code.ownership",
}
LAYERS: dict[str, set[str]] = {
    "hpo.tree": set(),
    "hpo.random": set(),
    "hpo.optim.schedules": set(),
    "hpo.random": set(),
    "hpo.models.losses": set(),
    "hpo.user_code.messages": set(),
    "hpo.training.trace": set(),
    "hpo.training.tracing": {"hpo.training.trace"},
    "hpo.models.dropout": {"hpo.random"},
    "hpo.models": {"hpo.models.dropout", "hpo.models"},
    "hpo.gradients.layer_rules": {"hpo.gradients.layer_rules", "hpo.tree"},
    "hpo.gradients.recurrence": set(),
    "hpo.gradients.choosing": set(),
    "hpo.gradients.substitutes": {"hpo.gradients.choosing", "hpo.gradients.recurrence"},
    "hpo.gradients.network": {
        "hpo.models.dropout",
        "hpo.gradients.layer_check",
        "hpo.gradients.substitutes",
        "hpo.gradients.layer_rules",
        "hpo.tree",
    },
    "hpo.gradients.rule_check": {"hpo.models.losses", "hpo.gradients.network", "hpo.gradients.layer_rules", "hpo.tree"},
    "hpo.gradients.passes": {
        "hpo.models.losses",
        "hpo.gradients.network",
        "hpo.user_code.returns",
        "hpo.gradients.rule_check",
        "hpo.tree",
    },
    "hpo.gradients.objective": {"hpo.models.losses", "hpo.gradients.network", "hpo.gradients.passes", "hpo.tree"},
    "hpo.user_code.returns": {"hpo.gradients.substitutes", "hpo.tree"},
    "hpo.optim.adam_triton": set(),
    "hpo.optim.adam": {"hpo.optim.adam_triton", "hpo.tree"},
    "hpo.optim.optimizers": {"hpo.optim.adam", "hpo.user_code.returns", "hpo.tree"},
    "hpo.optim.regularizers": {"hpo.gradients.objective", "hpo.tree"},
    "hpo.gradients.layer_check": set(),
    "hpo.training.model_checks": {"hpo.gradients.layer_check"},
    "hpo.training.output_check": set(),
    "hpo.user_code.metrics": set(),
    "hpo.training.model_checks": {"hpo.tree"},
    "hpo.training.single_model": {
        "hpo.models.losses",
        "hpo.gradients.network",
        "hpo.gradients.objective",
        "hpo.user_code.returns",
        "hpo.tree",
    },
    "hpo.training.population": {
        *(
            "hpo.training.model_checks",
            "hpo.models.losses",
            "hpo.training.model_checks",
            "hpo.gradients.network",
            "hpo.gradients.objective",
            "hpo.training.single_model",
        ),
        *("hpo.optim.optimizers", "hpo.user_code.returns", "hpo.training.tracing", "hpo.tree"),
    },
    "hpo.data": {"hpo.random", "hpo.data", "hpo.random"},
    "hpo.training.samples": {"hpo.random", "hpo.data", "hpo.random"},
    "hpo.training.plain_calls": {"hpo.gradients.substitutes", "hpo.tree"},
    "hpo.training.initial_models": {"hpo.training.model_checks", "hpo.training.plain_calls", "hpo.random"},
    "hpo.training.before_training": {"hpo.training.population", "hpo.training.samples"},
    "hpo.training.evaluation": {"hpo.training.population", "hpo.training.samples"},
    "hpo.training.steps": {"hpo.random", "hpo.training.population", "hpo.training.samples", "hpo.training.tracing"},
    "hpo.training.population_size": {"hpo.training.initial_models", "hpo.training.model_checks", "hpo.training.loop"},
    "hpo.training.loop": {
        *(
            "hpo.training.before_training",
            "hpo.data",
            "hpo.training.evaluation",
            "hpo.training.initial_models",
            "hpo.models.losses",
            "hpo.user_code.metrics",
        ),
        *("hpo.training.model_checks", "hpo.gradients.objective", "hpo.optim.optimizers"),
        *(
            "hpo.training.output_check",
            "hpo.training.population",
            "hpo.training.samples",
            "hpo.optim.schedules",
            "hpo.random",
            "hpo.training.steps",
            "hpo.tree",
        ),
    },
}
OPTUNA = {
    "hpo.search_space",
    "hpo.study.pruner",
    "hpo.worker.synchronous_pruner",
    "hpo.worker.sampler",
    "hpo.worker.batched_tpe",
    "hpo.storage.optuna",
}
OPTUNA |= {"hpo.dashboard", "hpo.report.tuning_frames"}
SQL = {"hpo.bench.storage", "hpo.bench.transactions", "hpo.cli.doctor.storage", "hpo.storage.ledger", "hpo.storage"}
SQL |= {"hpo.storage.optuna.notes", "hpo.storage.optuna.tables"}
TORCH_FREE = {
    "hpo.analysis.paired_tests",
    "hpo.analysis.verdicts",
    "hpo.analysis.descriptors",
    "hpo.report.figures",
    "hpo.report",
    "hpo.study.study",
    "hpo.search_space",
}
TORCH_FREE |= {
    "hpo.storage.ledger",
    "hpo.storage",
    "hpo.worker.loop",
    "hpo.storage.optuna",
    "hpo.worker.sampler",
    "hpo.cli",
}
TORCH_FREE |= {"hpo.dashboard", "hpo.trials", "hpo.study.pruner", "hpo.worker.synchronous_pruner"}
TORCH_FREE |= {"hpo.cli.terminal.progress", "hpo.cli.terminal.status", "hpo.cli.terminal.watch"}
HEAVY = ("torch", "optuna", "pandas", "plotly", "matplotlib", "scipy", "sqlalchemy", "mnist1d")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def type_checking_only(tree: ast.AST) -> set[ast.AST]:
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    return {inside for guard in guards for statement in guard.body for inside in ast.walk(statement)}


def imports(module: str, lazy: bool = True, typing: bool = True) -> set[str]:
    """Full names of all that a module imports; of the package's own, the modules that names are taken from."""
    tree = ast.parse(FILES[module].read_text())
    skipped = set() if typing else type_checking_only(tree)
    if not lazy:
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        skipped |= {inside for function in functions for inside in ast.walk(function)}
    return {name for node in ast.walk(tree) if node not in skipped for name in _named(node)}


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute, so that one can see who imports whom"
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            yield submodule if submodule in FILES else str(node.module)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
        yield from (str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant))


def reached(module: str, lazy: bool) -> set[str]:
    """All that is imported with a module, on through the package's own modules."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imports(waiting.pop(), lazy, typing=False) - seen:
            seen.add(name)
            waiting += [part for part in _with_parents(name) if part in FILES]
    return seen


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def belongs(module: str, homes: set[str]) -> bool:
    return any(module == home or module.startswith(f"{home}.") for home in homes)


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_the_scan_sees_what_is_there() -> None:
    """A rule that looks at nothing would always hold."""
    assert "optuna.distributions" in imports("hpo.search_space")
    assert "optuna.distributions" not in imports("hpo.search_space", lazy=False, typing=False)
    assert {"hpo.optim.regularizers.gnvr", "hpo.gradients.objective"} <= imports("hpo.optim.regularizers")
    assert "torch" in reached("hpo.study.definition", lazy=False)
    assert "hpo.storage.optuna.mirror" in FILES
    assert set(LAYERS) <= set(FILES)


@pytest.mark.parametrize("module", [name for name in FILES if belongs(name, set(LAYERS))])
def test_the_numerics_are_layered(module: str) -> None:
    layer = next(layer for layer in LAYERS if belongs(module, {layer}))
    own = {name for name in imports(module) if belongs(name, {"hpo"})}
    allowed = LAYERS[layer] | GROUND
    if module == "hpo.optim.regularizers":
        allowed = allowed | {"hpo.optim.regularizers"}
    assert {name for name in own if not belongs(name, allowed)} == set()


@pytest.mark.parametrize("module", [name for name in FILES if belongs(name, set(LAYERS))])
def test_the_numerics_see_neither_optuna_nor_sql_nor_a_path(module: str) -> None:
    forbidden = {"optuna", "sqlalchemy", "sqlite3", "psycopg"}
    if not belongs(module, {"hpo.data"}):
        forbidden |= {"pathlib", "os", "shutil", "tempfile"}
    assert roots(imports(module)) & forbidden == set()
    assert roots(reached(module, lazy=False)) & {"optuna", "sqlalchemy", "sqlite3"} == set()


def test_regularizers_never_import_one_another() -> None:
    files = {name for name in FILES if name.startswith("hpo.optim.regularizers.")}
    assert files
    for name in files:
        assert not imports(name) & (files | {"hpo.optim.regularizers"}), name


def test_only_a_few_import_optuna() -> None:
    assert {name for name in FILES if "optuna" in roots(imports(name)) and not belongs(name, OPTUNA)} == set()


def test_only_the_storage_speaks_sql() -> None:
    speakers = {name for name in FILES if roots(imports(name)) & {"sqlalchemy", "sqlite3", "psycopg"}}
    assert {name for name in speakers if not belongs(name, SQL)} == set()


@pytest.mark.parametrize("module", [name for name in FILES if belongs(name, TORCH_FREE - {"hpo.cli"})])
def test_reports_and_storage_never_see_torch(module: str) -> None:
    """Not even in a function: a report can be rebuilt where there is no torch."""
    assert "torch" not in roots(reached(module, lazy=True))


def test_no_two_modules_import_one_another() -> None:
    """Not even on the way over others, or in a function."""
    whom = {module: imports(module, typing=False) & set(FILES) - {module} for module in FILES}
    while loose := {module for module, others in whom.items() if not others & set(whom)}:
        whom = {module: others for module, others in whom.items() if module not in loose}
    assert whom == {}


def test_nobody_imports_the_command_line_or_the_studies() -> None:
    for name in FILES:
        if name != "hpo.__main__" and not belongs(name, {"hpo.cli"}):
            assert not {imported for imported in imports(name) if belongs(imported, {"hpo.cli", "studies"})}, name


def loaded(module: str) -> set[str]:
    """The heavy packages in a fresh interpreter after importing a module."""
    program = f"import json, sys, {module}; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["hpo", "hpo.cli"])
def test_nothing_heavy_is_loaded_before_it_is_needed(module: str) -> None:
    assert loaded(module) == set()


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("hpo.training.loop, hpo.study.definition", {"optuna", "sqlalchemy", "pandas", "plotly", "matplotlib"}),
        (
            "hpo.report, hpo.analysis.paired_tests, hpo.report.figures, hpo.worker.loop, hpo.storage.optuna.mirror, hpo.worker.sampler",
            {"torch"},
        ),
    ],
)
def test_what_is_really_loaded(module: str, forbidden: set[str]) -> None:
    assert loaded(module) & forbidden == set()


def test_every_public_name_is_there() -> None:
    for name in hpo.__all__:
        assert getattr(hpo, name) is not None
    with pytest.raises(AttributeError, match="module 'hpo' has no attribute 'Nonsense'"):
        _ = hpo.Nonsense
