"""Commands in this process: misspelt names, the watch's options, and `hpo report`."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from storage_study import finish_all, make
from synthetic_record import synthetic_export

from hpo import api, cli, notebooks
from hpo.cli.terminal import catalogue
from hpo.report import Results, make_record
from hpo.search_space import choice
from hpo.space import as_json
from hpo.storage.database import connect
from hpo.storage.ledger import load_study
from tests.report.golden_studies import STUDIES

STUDY = '''
"""A small study."""
from hpo import MLP, Configuration, Mnist1d, Study

STUDY = Study(
    data=Mnist1d(samples=100), model=MLP((40, 8, 10)), epochs=1, baseline="AdamW",
    configurations=(Configuration("AdamW"), Configuration("Mine", regularizer="gnvr")),
)
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Iterator[Path]:  # noqa: ARG001
    """A folder with one study as the working directory; the interpreter is as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("HPO_STORAGE", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "small.py").write_text(STUDY)
    yield tmp_path
    sys.modules.pop("hpo_study_small", None)


@pytest.fixture(scope="module")
def golden_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of two finished studies and an unfinished one."""
    path = tmp_path_factory.mktemp("golden") / "hpo.db"
    engine = connect(f"sqlite:///{path}")
    for create in STUDIES.values():
        create(engine)
    engine.dispose()
    return path


@pytest.fixture
def golden(folder: Path, golden_database: Path) -> Path:
    """The folder, with a copy of the golden database."""
    shutil.copy(golden_database, folder)
    return folder


def hpo(*arguments: str) -> int:
    """Runs a command; returns its exit code."""
    before = sys.argv
    sys.argv = ["hpo", *arguments]
    try:
        cli.main()
    except SystemExit as exit:
        return int(exit.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("run smal", ["studies/smal.py", "did you mean 'small'?"]),
        ("try small -c mien", ["'mien'", "AdamW, Mine", "did you mean 'Mine'?"]),
        ("try small -c Mine lamda=1", ["'lamda'", "learning_rate, weight_decay", "did you mean 'lambda'?"]),
        ("try small -c AdamW beta1", ["beta1 ", "beta1=VALUE"]),
        ("try small -c AdamW beta1=high", ["'beta1=high'", "beta1=0.1"]),
        ("report smal", ["'smal'", "did you mean 'small'?"]),
        ("status smal", ["'smal'", "did you mean 'small'?"]),
        ("status smal --watch", ["'smal'", "did you mean 'small'?"]),
        ("bench --regularizer gnrv", ["'gnrv'", "clip_sample, rogc", "did you mean 'gnvr'?"]),
    ],
)
def test_a_misspelt_name(arguments: str, words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(connect(f"sqlite:///{folder}/hpo.db"), "small")
    assert hpo(*arguments.split()) == 2
    message = capsys.readouterr().err
    assert message.startswith("hpo: ") and message.count("\n") == 1
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "arguments", [["--watch", "small"], ["small", "--watch"], ["--watch", "3", "small"], ["small", "--watch=0.5"]]
)
def test_the_watch_with_and_without_seconds(
    arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_all(make(connect(f"sqlite:///{folder}/hpo.db"), "small"))
    assert hpo("status", *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["small"]["state"] == "done"
    assert hpo("status", "--watch", "0") == 2
    assert "--watch" in capsys.readouterr().err


def test_a_report_creates_no_database(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hpo("report", "gnvr") == 2
    assert "sqlite:///hpo.db" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["studies"]


def test_one_report(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hpo("report", "plain") == 0
    verdict, warning, path = capsys.readouterr().out.splitlines()
    assert verdict.startswith("GNVR against AdamW: tentatively better; Δ = +") and "*" not in verdict
    assert warning.startswith("warning: Few trials") and "AdamW has 4 for 2 hyperparameters" in warning
    assert path == "report: reports/plain/README.md"
    assert sorted(path.name for path in (golden / "reports").iterdir()) == ["plain", "plotly.min.js"]


def test_several_standalone_reports(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hpo("report", "plain", "under_way", "plain", "--standalone", "--reports", "r") == 0
    output = capsys.readouterr().out
    paths = [line.removeprefix("report: ") for line in output.splitlines() if line.startswith("report: ")]
    for name, line in zip(("plain", "under_way"), paths, strict=True):
        assert f"r/{name}/README.md" in line and f"r/{name}/report.html" in line
    assert "a|b_c 50% against AdamW: " in output and "GNVR and a|b_c 50% have 3 for 3 hyperparameters" in output
    assert sorted(path.name for path in (golden / "r").iterdir()) == ["plain", "under_way"]
    assert "plotly.js v" in (golden / "r" / "plain" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments",
    [
        "report plain --reports afile",
        "report plain --reports afile/deeper",
        "report plain under_way --compare --reports afile",
        "export plain --to afile",
        "export plain --to afile/deeper --format json",
        "export plain --to afile/plain.hpo --format study",
        "run small --reports afile --storage sqlite:///new.db",
    ],
)
def test_a_file_in_the_place_of_a_folder(arguments: str, golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (golden / "afile").write_text("kept")
    assert hpo(*arguments.split()) == 1
    message = capsys.readouterr().err
    assert message.startswith("hpo: ") and message.count("\n") == 1 and "afile is a file" in message
    assert (golden / "afile").read_text() == "kept"
    assert not (golden / "new.db").exists()  # nothing was trained


def test_a_question_about_a_deletion_names_what_stays(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (golden / "reports" / "plain").mkdir(parents=True)
    assert hpo("delete", "plain") == 2
    assert "reports/plain stays" in capsys.readouterr().err


def test_an_unknown_study_writes_nothing(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hpo("report", "plain", "plane") == 2
    assert "'plane'" in capsys.readouterr().err
    assert not (golden / "reports").exists()


@pytest.mark.parametrize("standalone", [False, True])
def test_a_comparison(standalone: bool, golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra = ["--standalone"] if standalone else []
    assert hpo("report", "plain", "under_way", "--compare", *extra) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["plain", "under_way", "under_way", "report"]
    assert (
        "report: reports/compare-plain-under_way/README.md" in lines[-1] and ("report.html" in lines[-1]) == standalone
    )
    readme = (golden / "reports" / "compare-plain-under_way" / "README.md").read_text(encoding="utf-8")
    assert "\nhpo report plain under_way --compare\n" in readme
    assert (golden / "reports" / "plotly.min.js").exists() != standalone
    page = (golden / "reports" / "compare-plain-under_way" / "report.html").read_text(encoding="utf-8")
    assert ("plotly.js v" in page) == standalone


def test_a_comparison_of_one_study(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hpo("report", "under_way", "--compare") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "report: reports/compare-under_way/README.md"
    assert "1 study" in (golden / "reports" / "compare-under_way" / "README.md").read_text(encoding="utf-8")


def test_a_comparison_of_many_studies_has_a_short_folder_name(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.report.write_comparison", lambda _, folder, *more: folder)  # noqa: ARG005
    ledgers = [load_study(connect(f"sqlite:///{golden}/hpo.db"), "plain")] * 20
    name = api.compare(ledgers, golden / "reports").name
    assert re.fullmatch(r"compare-plain-and-19-more-[0-9a-f]{8}", name)
    assert api.compare(ledgers[:19], golden / "reports").name != name


SEARCH = '''
"""A study with choices."""
from hpo import MLP, Configuration, Mnist1d, Regularizer, Stages, Study, choice, grid, integers

def network(width=8):
    return MLP((40, width, 10))()

def grads(objective, params, state, hyper):
    return objective.grad(params), state, {"rank": hyper["scale"] * hyper["rank"]}

HYPER = {"rank": integers(1, 4), "kind": choice("a", "1"), "scale": 1.0}
MINE = Regularizer("mine", grads, HYPER, static=("rank", "kind"))
STUDY = Study(
    data=Mnist1d(samples=100), model=network, epochs=1, baseline="AdamW", trials=2, sampler=SAMPLER,
    configurations=(
        Configuration("AdamW", space={"batch_size": choice(16, 32), "weight_decay": 0.1}),
        Configuration("Mine", regularizer=MINE, space={"weight_decay": 0.1, "beta1": choice(0.8, 0.9)}),
        Configuration("Growing", space={"batch_size": Stages({0: 16}), "weight_decay": 0.1}),
    ),
)
'''


def tried(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The setting that `hpo try` trains."""
    assert hpo("try", "search", "--json", *words) == 0
    setting: dict[str, Any] = json.loads(capsys.readouterr().out)["setting"]
    return setting


def test_try_takes_every_kind_of_hyperparameter(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "studies" / "search.py").write_text(SEARCH.replace("SAMPLER", "'random'"))
    assert tried(capsys, "-c", "AdamW")["batch_size"] == 16
    given = tried(capsys, "-c", "AdamW", "batch_size=32", "model.width=5", "label_smoothing=0.1")
    assert (given["batch_size"], given["model.width"], given["label_smoothing"]) == (32, 5, 0.1)
    mine = tried(capsys, "-c", "Mine", "rank=3", "kind=1", "batch_size=8")
    assert (mine["rank"], mine["kind"], mine["batch_size"], mine["beta1"]) == (3, "1", 8, 0.8)
    assert tried(capsys, "-c", "Growing")["batch_size"] == {"kind": "Stages", "stages": [[0, 16]]}
    assert hpo("try", "search", "-c", "Mine", "rank=5", "beta1=0.9") == 0
    [note] = capsys.readouterr().err.splitlines()
    assert "rank 5" in note and "1–4" in note
    for words, named in (
        (["batch_size=8.5"], "batch_size is 8.5"), (["model.depth=2"], "'model.depth'"), (["beta1=x"], "'beta1=x'"),
        (["batch_size=90"], "batch_size is 90"),
    ):  # fmt: skip
        assert hpo("try", "search", "-c", "Mine", *words) == 2
        text = capsys.readouterr().err
        assert named in text and text.count("\n") == 1


def test_a_flag_for_trials_is_refused_where_each_configuration_has_its_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampler = "grid({'learning_rate': [0.001, 0.01], 'rank': [1, 2]})"
    (folder / "studies" / "search.py").write_text(SEARCH.replace("SAMPLER", sampler))
    assert hpo("run", "search", "--trials", "5") == 2
    assert "--trials 5 has no effect" in capsys.readouterr().err


def test_list_names_samplers_and_training_hyperparameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert hpo("list", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert {"tpe", "random", "gp", "cmaes", "qmc", "grid"} <= shown["samplers"].keys()
    assert any("batch_size" in name for name in shown["training hyperparameters"])


def test_list_shows_studies_whatever_else_is_in_their_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    studies = folder / "studies"
    (studies / ".#small.py").symlink_to("somebody@host.1234")  # Emacs' lock
    (studies / "._small.py").write_bytes(b"\0\5\x16\7\0\2Mac OS X\xff")
    (studies / "gone.py").symlink_to("nowhere.py")
    (studies / "zeros.py").write_bytes(b"\0")
    (studies / "folder.py").mkdir()
    (studies / "latin1.py").write_bytes('"""Größe."""'.encode("latin-1"))
    (studies / "declared.py").write_bytes('# coding: latin-1\n"""Größe."""'.encode("latin-1"))
    assert hpo("list", "--json") == 0
    shown = json.loads(capsys.readouterr().out)["studies"]
    assert (shown["small"], shown["declared"]) == ("A small study.", "Größe.")
    assert {shown[name][0] for name in ("gone", "zeros", "folder", "latin1")} == {"("}
    assert not [name for name in shown if name.startswith(".")]


@pytest.mark.parametrize("command", ["run", "worker", "launch"])
def test_a_name_stands_for_that_of_a_file(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "studies" / "my study.py"
    (folder / "studies" / "small.py").rename(path)
    assert hpo(command, str(path), "--storage", "sqlite:////proc/none/hpo.db") != 0
    assert "'my study'" in capsys.readouterr().err
    assert hpo(command, str(path), "--name", "my_study", "--storage", "sqlite:////proc/none/hpo.db") != 0
    assert "/proc/none" in capsys.readouterr().err


def test_best_shows_a_none_that_was_chosen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    exported, curves = synthetic_export()
    [_, gnvr] = exported["study"]["definition"]["configurations"]
    gnvr["space"] |= {"clip": as_json(choice(None, "norm")), "fixed": None}
    for row in exported["slots"]:
        if row["configuration"] == "GNVR" and row["setting"]:
            row["setting"]["clip"] = None
    monkeypatch.setattr(notebooks, "results", lambda *_: Results(make_record(exported, curves)))
    assert hpo("best", "small", "--json") == 0
    settings = {row["configuration"]: row["setting"] for row in json.loads(capsys.readouterr().out)}
    assert settings["GNVR"].items() >= {"clip": None, "fixed": None}.items()
    assert settings["AdamW"] and "clip" not in settings["AdamW"]


def test_the_stored_parts_are_those_of_the_modules_and_are_listed_without_pytorch() -> None:
    stored = json.loads(catalogue.BUILT_IN.read_text(encoding="utf-8"))
    assert stored == catalogue.built_in_parts(), "call hpo.cli.terminal.catalogue.write_built_in_parts()"
    code = "import sys, hpo.cli.terminal.catalogue as it; it.catalogue(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
