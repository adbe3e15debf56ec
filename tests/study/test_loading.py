"""From a reference to a study; every mistake in a file is one sentence with file, place and mend."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo.errors import UsageError
from hpo.study.definition import describe, digest
from hpo.study.loading import BUILT_IN, load, study_name, study_path

GOOD = """
from hpo import MLP, Configuration, Mnist1d, Study, log_range

SPACE = {
    "learning_rate": log_range(1e-4, 1e-2),
    "weight_decay": 0.0,
}
STUDY = Study(
    data=Mnist1d(samples=100),
    model=MLP((40, 8, 10)),
    epochs=2,
    baseline="AdamW",
    configurations=(
        Configuration("AdamW", space=SPACE),
        Configuration("GNVR", regularizer="gnvr", space=SPACE | {"lambda": log_range(1e-3, 10)}),
    ),
)
"""
VARIANTS = GOOD.replace("STUDY = ", "one = ") + "STUDIES = {'clean': one, 'noisy': one}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project folder as the working directory; what loading adds to the interpreter is taken back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)
    yield tmp_path
    for name in [name for name in sys.modules if name not in known and name.startswith("hpo_study_")]:
        del sys.modules[name]


def write(text: str, path: str = "studies/mine.py") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def refusal(reference: str = "mine") -> str:
    with pytest.raises(UsageError) as caught:
        load(reference)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def test_a_study_by_name_and_by_path() -> None:
    write(GOOD)
    write(GOOD, "elsewhere/other.py")
    assert load("mine") == load("studies/mine.py")
    assert load("mine").name == "mine"
    assert load("elsewhere/other.py").name == "other"
    absolute = str(Path("elsewhere/other.py").resolve())
    assert load(absolute).name == "other"


def test_a_name_of_its_own_stands() -> None:
    write(GOOD.replace("Study(\n", "Study(\n    name='chosen',\n"))
    assert load("mine").name == "chosen"


def test_variants() -> None:
    write(VARIANTS)
    assert load("mine:noisy").name == "mine-noisy" == study_name("mine:noisy")
    assert study_name("studies/mine.py:noisy") == "mine-noisy"
    assert study_name("mine") == study_name("studies/mine.py") == "mine"
    assert study_path("mine:noisy") == Path("studies/mine.py")
    expected = "studies/mine.py has the variants mine:clean, mine:noisy; name one of them"
    assert refusal("mine") == refusal("mine:quiet") == expected


def test_a_variant_where_there_are_none() -> None:
    write(GOOD)
    assert refusal("mine:noisy") == "studies/mine.py has no variants; leave out ':noisy'"


def test_a_missing_file() -> None:
    write(GOOD)
    write(GOOD, "studies/_shared.py")
    for reference, path in (("other", "studies/other.py"), ("no/such.py", "no/such.py")):
        start, _, listed = refusal(reference).partition("; studies are: ")
        assert start == f"no study file {path}"
        assert listed.split(", ") == sorted([*(path.stem for path in BUILT_IN.glob("*.py")), "mine"])


def test_the_projects_own_studies_are_found_in_any_folder_and_give_way_to_a_namesake() -> None:
    assert load("gnvr").title == load(str(BUILT_IN / "gnvr.py")).title
    assert load("rogc:noisy").name == "rogc-noisy"
    write(GOOD, "studies/gnvr.py")
    assert load("gnvr").configurations == load("studies/gnvr.py").configurations
    assert load("gnvr").title != load(str(BUILT_IN / "gnvr.py")).title


def test_a_file_without_a_study() -> None:
    write("STUDY = 3\n")
    assert refusal() == (
        "studies/mine.py defines no STUDY; write STUDY = hpo.Study(...), or STUDIES = {name: hpo.Study(...)}"
    )


LEARNING_RATE = '    "learning_rate": log_range(1e-4, 1e-2),'


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        (
            LEARNING_RATE,
            '    "learning_rate": log_range(1e-2, 1e-4),',
            '5 ("learning_rate": log_range(1e-2, 1e-4))',
            "the range 0.01–0.0001 has low ≥ high; write the smaller bound first, or give the value itself to keep it "
            "fixed",
        ),
        (
            LEARNING_RATE,
            '    "learning_rate": log_range(0, 1e-2),',
            '5 ("learning_rate": log_range(0, 1e-2))',
            "the log range 0–0.01 touches 0; raise its low bound, or use linear_range",
        ),
        (
            '"GNVR", ',
            '"AdamW", ',
            "8 (STUDY = Study()",
            "configurations has two entries named 'AdamW'; rename one of them",
        ),
        (
            'baseline="AdamW"',
            'baseline="Adam"',
            "8 (STUDY = Study()",
            "baseline is 'Adam'; name one of the configurations: AdamW, GNVR; did you mean 'AdamW'?",
        ),
        (
            '    baseline="AdamW",\n',
            "",
            "8 (STUDY = Study()",
            "Study lacks 'baseline'; add it (`hpo new` writes a complete file)",
        ),
        (
            "epochs=2",
            "epoch=2",
            "8 (STUDY = Study()",
            "Study takes no 'epoch'; did you mean 'epochs'?",
        ),
        (
            'Configuration("GNVR", regularizer=',
            'Configuration("GNVR", regulariser=',
            '15 (Configuration("GNVR", regulariser="gnvr", space=SPACE | {"lambda": [...])',
            "Configuration takes no 'regulariser'; did you mean 'regularizer'?",
        ),
        (
            "samples=100",
            "label_nois=0.2",
            "9 (data=Mnist1d(label_nois=0.2))",
            "Mnist1d takes no 'label_nois'; did you mean 'label_noise'?",
        ),
        (
            "1e-4, 1e-2)",
            "1e-4, 1e-2, xyz=1)",
            '5 ("learning_rate": log_range(1e-4, 1e-2, xyz=1))',
            "log_range takes no 'xyz'; it takes low, high, off",
        ),
        (
            "Mnist1d(samples",
            "Mnist1D(samples",
            "9 (data=Mnist1D(samples=100))",
            "'Mnist1D' is not defined; did you mean 'Mnist1d'?",
        ),
        (
            "Mnist1d(samples",
            "Digits(samples",
            "9 (data=Digits(samples=100))",
            "'Digits' is not imported; write `from hpo import Digits` at the top",
        ),
        (
            "Mnist1d, Study",
            "Mnist1d, Studdy",
            "2 (from hpo import MLP, Configuration, Mnist1d, Studdy, log_range)",
            "hpo has no 'Studdy'; did you mean 'Study'?",
        ),
        (
            "epochs=2",
            "score='validation_acuracy'",
            "8 (STUDY = Study()",
            "score is 'validation_acuracy'; choose one of validation_accuracy, validation_loss, train_loss, "
            "noisy_labels_fitted, noisy_labels_recovered; did you mean 'validation_accuracy'?",
        ),
        (
            "epochs=2",
            "epochs='2' + 1",
            "11 (epochs='2' + 1)",
            'TypeError: can only concatenate str (not "int") to str; mend that line',
        ),
        (
            "epochs=2",
            "epochs=0",
            "8 (STUDY = Study()",
            "the study: epochs is 0; give a whole number of at least 1",
        ),
        (
            "samples=100",
            "samples=1234",
            "9 (data=Mnist1d(samples=1234))",
            "Mnist1d: samples is 1234; give a multiple of 10, at least 50",
        ),
        (
            "epochs=2",
            "epochs=1 // 0",
            "11 (epochs=1 // 0)",
            "ZeroDivisionError: integer division or modulo by zero; mend that line",
        ),
        ("SPACE = {", "import nowhere_to_be_found\nSPACE = {", None, "ModuleNotFoundError: No module named"),
        (
            'Configuration("AdamW", space=SPACE)',
            'Configuration("AdamW", space=[1])',
            '14 (Configuration("AdamW", space=[1]))',
            "configuration 'AdamW': space is [1]; give a dict of hyperparameters and their ranges",
        ),
        (
            'Configuration("AdamW", space=SPACE)',
            "Configuration(1, space=SPACE)",
            "14 (Configuration(1, space=SPACE))",
            "configuration 1: a name needs at least one character, no '/' and no blanks at its ends",
        ),
        (
            '        Configuration("AdamW", space=SPACE),\n',
            "",
            "8 (STUDY = Study()",
            "configurations has fewer than two entries; a comparison needs a baseline and a rival",
        ),
        (
            '"AdamW", space=SPACE),\n        Configuration("GNVR", regularizer="gnvr", space=SPACE | {"lambda": '
            "log_range(1e-3, 10)}),",
            '"AdamW", space=SPACE)',
            "8 (STUDY = Study()",
            "configurations is a single one; give a tuple of two or more",
        ),
        ("epochs=2,", "epochs=2))", "11", "SyntaxError: unmatched ')'; mend that line"),
        ("SPACE = {", "raise RuntimeError\nSPACE = {", "4 (raise RuntimeError)", "RuntimeError; mend that line"),
    ],
)
def test_a_mistake_in_the_file(before: str, after: str, line: str | None, words: str) -> None:
    assert before in GOOD
    write(GOOD.replace(before, after))
    message = refusal()
    if line is None:
        assert words in message
        assert message.startswith("studies/mine.py, line 4 (")
    else:
        assert message == f"studies/mine.py, line {line}: {words}"


def test_an_exception_deep_in_somebody_elses_code_names_the_users_line() -> None:
    write("import json\n\n\ndef settings():\n    return json.loads('{')\n\n\nSTUDY = settings()\n")
    assert refusal().startswith("studies/mine.py, line 5 (return json.loads('{')): JSONDecodeError: Expecting property")


def test_a_misspelt_hyperparameter_is_found_on_loading() -> None:
    write(GOOD.replace('"lambda"', '"lamda"'))
    assert refusal() == (
        "studies/mine.py: configuration 'GNVR': space names 'lamda', which neither optimizer 'adamw' nor regularizer "
        "'gnvr' has; choose from learning_rate, weight_decay, beta1, beta2, epsilon, lambda; did you mean 'lambda'?"
    )


@pytest.mark.parametrize(
    ("before", "after", "hint"),
    [
        ('regularizer="gnvr"', 'regularizer="gvnr"', "; did you mean 'gnvr' or 'gvr'?"),
        ('regularizer="gnvr"', 'regularizer="GNVR"', "; did you mean 'gnvr'?"),
        ('Configuration("AdamW"', 'Configuration("AdamW", "adamm"', "; did you mean 'adam' or 'adamw'?"),
        ('regularizer="gnvr"', 'regularizer="xyz"', ", rogc"),
    ],
)
def test_a_misspelt_part_is_found_on_loading(before: str, after: str, hint: str) -> None:
    write(GOOD.replace(before, after))
    assert hint in refusal()
    assert ("did you mean" in refusal()) == ("did you mean" in hint)


def test_a_name_that_is_nearly_one_of_those_here() -> None:
    write(VARIANTS)
    assert refusal("mien").endswith("; did you mean 'mine'?")
    assert refusal("mine:nosy").endswith("mine:clean, mine:noisy; name one of them; did you mean 'noisy'?")


def test_a_name_missing_in_a_neighbour_is_not_looked_for_in_the_study() -> None:
    write("WIDTH = SPACING\n", "studies/width_with_mistake.py")
    write(GOOD.replace("\nSPACE", "import width_with_mistake\n\nSPACE", 1))
    assert "NameError: name 'SPACING' is not defined; mend that line" in refusal()


def test_a_study_may_import_its_neighbours() -> None:
    write("WIDTH = 8\n", "studies/width_of_mine.py")
    write(
        GOOD.replace("\nSPACE", "from width_of_mine import WIDTH\n\nSPACE", 1).replace("(40, 8, 10)", "(40, WIDTH, 10)")
    )
    assert describe(load("mine"))["model"]["widths"] == [40, 8, 10]
    del sys.modules["width_of_mine"]


def test_loading_twice_gives_one_digest() -> None:
    write(GOOD)
    assert digest(describe(load("mine"))) == digest(describe(load("mine")))


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("raise SystemExit(3)\n", "line 2"),
        (GOOD.replace("epochs=2,", 'epochs=2, score="test_accuracy",'), "score is 'test_accuracy'; choose one of"),
    ],
)
def test_ending_the_program_and_scoring_on_the_test_set_are_refused(folder: Path, mistake: str, words: str) -> None:
    (folder / "studies").mkdir(exist_ok=True)
    (folder / "studies" / "mine.py").write_text("\n" + mistake)
    with pytest.raises(UsageError, match=r"mine\.py") as caught:
        load("mine")
    assert words in str(caught.value)
