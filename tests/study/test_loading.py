"""From a reference to a study; every mistake in a file is one sentence with file, line and what to write."""

import re
import sys
from pathlib import Path

import pytest

import hpo
from hpo.errors import UsageError
from hpo.study.definition import describe, digest
from hpo.study.fingerprint import fingerprint
from hpo.study.loading import load
from hpo.study.study_files import BUILT_IN, study_name, study_path

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


pytestmark = pytest.mark.usefixtures("folder")


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


def test_a_study_may_give_its_own_name() -> None:
    write(GOOD.replace("Study(\n", "Study(\n    name='chosen',\n"))
    assert load("mine").name == "chosen"


def test_a_name_that_is_given_counts_instead_of_that_of_the_file() -> None:
    path = write(GOOD, "studies/my study.py")
    assert load(path, "my_study").name == "my_study"
    message = refusal(str(path))
    assert message.startswith(f"{path}: ") and "--name" in message
    with pytest.raises(UsageError, match="'a b'"):
        load(path, "a b")
    write(VARIANTS.replace("'noisy'", "'noise 20'"))
    assert load("mine:noise 20", "noise_20").name == "noise_20"
    assert "--name" in refusal("mine:noise 20")


def test_a_study_is_given_as_text_or_path() -> None:
    path = write(GOOD)
    assert load(path) == load(str(path))
    for call in (load, hpo.run, hpo.results, lambda study: hpo.load_model(study, "AdamW", 1000)):
        with pytest.raises(UsageError, match="3"):
            call(3)  # type: ignore[operator]


def test_variants() -> None:
    write(VARIANTS)
    assert load("mine:noisy").name == "mine-noisy" == study_name("mine:noisy")
    assert study_name("studies/mine.py:noisy") == "mine-noisy"
    assert study_name("mine") == study_name("studies/mine.py") == "mine"
    assert study_path("mine:noisy") == Path("studies/mine.py")
    for reference in ("mine", "mine:quiet"):
        assert "studies/mine.py has the variants mine:clean, mine:noisy" in refusal(reference)
    assert "did you mean 'noisy'?" in refusal("mine:nosy")
    write(GOOD)
    assert "studies/mine.py has no variants" in refusal("mine:noisy")


def test_a_missing_file() -> None:
    write(GOOD)
    write(GOOD, "studies/_shared.py")
    for reference, path in (("other", "studies/other.py"), ("no/such.py", "no/such.py")):
        start, _, studies = refusal(reference).partition("; studies are: ")
        assert start == f"no study file {path}"
        assert studies.split(", ") == sorted([*(path.stem for path in BUILT_IN.glob("*.py")), "mine"])
    assert refusal("mien").endswith("; did you mean 'mine'?")


def test_the_built_in_studies_are_found_in_any_folder_unless_one_there_has_the_same_name() -> None:
    assert load("gnvr").title == load(str(BUILT_IN / "gnvr.py")).title
    assert load("rogc:noisy").name == "rogc-noisy"
    write(GOOD, "studies/gnvr.py")
    assert load("gnvr").configurations == load("studies/gnvr.py").configurations
    assert load("gnvr").title != load(str(BUILT_IN / "gnvr.py")).title


def test_a_file_without_a_study() -> None:
    write("STUDY = 3\n")
    assert "studies/mine.py defines no STUDY" in refusal()


RATE = "log_range(1e-4, 1e-2)"
ADAMW, GNVR = GOOD[GOOD.index('        Configuration("A') : GOOD.index("    ),\n)")].splitlines(keepends=True)
# Text and its replacement -> the line of the file that the error names, and what else it contains.
MISTAKES: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {
    (RATE, "log_range(1e-2, 1e-4)"): (5, ('("learning_rate": log_range(1e-2, 1e-4))', "0.01–0.0001", "low ≥ high")),
    (RATE, "log_range(0, 1e-2)"): (5, ("0–0.01", "linear_range")),
    (RATE, "log_range(1e-4, 1e-2, xyz=1)"): (5, ("log_range takes no 'xyz'", "low, high, off")),
    ('"GNVR", ', '"AdamW", '): (8, ("(STUDY = Study()", "two entries named 'AdamW'")),
    ('baseline="AdamW"', 'baseline="Adam"'): (8, ("baseline is 'Adam'", "AdamW, GNVR", "did you mean 'AdamW'?")),
    ('    baseline="AdamW",\n', ""): (8, ("Study lacks 'baseline'", "`hpo new`")),
    ("epochs=2", "epoch=2"): (8, ("Study takes no 'epoch'", "did you mean 'epochs'?")),
    ('regularizer="', 'regulariser="'): (15, ("[...])", "takes no 'regulariser'", "did you mean 'regularizer'?")),
    ("samples=100", "label_nois=0.2"): (9, ("Mnist1d takes no 'label_nois'", "did you mean 'label_noise'?")),
    ("samples=100", "samples=1234"): (9, ("samples is 1234",)),
    ("Mnist1d(samples", "Mnist1D(samples"): (9, ("'Mnist1D' is not defined", "did you mean 'Mnist1d'?")),
    ("samples=100", "samples=xyzzy"): (9, ("'xyzzy' is not defined", "define it")),
    ("Mnist1d(samples", "Digits(samples"): (9, ("`from hpo import Digits`",)),
    ("Mnist1d, Study", "Mnist1d, Studdy"): (2, ("hpo has no 'Studdy'", "did you mean 'Study'?")),
    ("epochs=2", "score='validation_acuracy'"): (8, ("'validation_acuracy'", "did you mean 'validation_accuracy'")),
    ("epochs=2", "score='test_accuracy'"): (8, ("score is 'test_accuracy'",)),
    ("epochs=2", "epochs=0"): (8, ("epochs is 0",)),
    ("epochs=2", "epochs='2' + 1"): (11, ("(epochs='2' + 1)", "TypeError: can only concatenate str")),
    ("epochs=2", "epochs=1 // 0"): (11, ("ZeroDivisionError",)),
    ("epochs=2,", "epochs=2))"): (11, ("SyntaxError: unmatched ')'",)),
    ("SPACE = {", "import nowhere_to_be_found\nSPACE = {"): (4, ("no module 'nowhere_to_be_found'", "install")),
    ("SPACE = {", "raise RuntimeError\nSPACE = {"): (4, ("(raise RuntimeError): RuntimeError;",)),
    ("SPACE = {", "raise SystemExit(3)\nSPACE = {"): (4, ("SystemExit: 3",)),
    ('"AdamW", space=SPACE', '"AdamW", space=[1]'): (14, ("configuration 'AdamW'", "space is [1]")),
    ('"AdamW", space=SPACE', "1, space=SPACE"): (14, ("name of a configuration is 1",)),
    (ADAMW, ""): (8, ("fewer than two",)),
    (ADAMW + GNVR, ADAMW.replace("),", ")")): (8, ("a single configuration",)),
}


@pytest.mark.parametrize(("before", "after"), MISTAKES)
def test_a_mistake_in_the_file_is_named_with_its_line(before: str, after: str) -> None:
    assert GOOD.count(before) == 1
    write(GOOD.replace(before, after))
    line, named = MISTAKES[before, after]
    message = refusal()
    assert re.match(rf"studies/mine\.py, line {line}\b", message)
    assert [words for words in named if words not in message] == []


def test_an_exception_in_library_code_names_the_users_line() -> None:
    write("import json\n\n\ndef settings():\n    return json.loads('{')\n\n\nSTUDY = settings()\n")
    assert refusal().startswith("studies/mine.py, line 5 (return json.loads('{')): JSONDecodeError: Expecting property")


@pytest.mark.parametrize(
    ("before", "after", "hint"),
    [
        ('regularizer="gnvr"', 'regularizer="gvnr"', "'gnvr' or 'gvr'"),
        ('regularizer="gnvr"', 'regularizer="GNVR"', "'gnvr'"),
        ('Configuration("AdamW"', 'Configuration("AdamW", "adamm"', "'adam' or 'adamw'"),
        ('regularizer="gnvr"', 'regularizer="xyz"', ""),
        ('"lambda"', '"lamda"', "'lambda'"),
    ],
)
def test_a_misspelt_part_or_hyperparameter_is_found_on_loading(before: str, after: str, hint: str) -> None:
    write(GOOD.replace(before, after))
    message = refusal()
    assert message.startswith("studies/mine.py: configuration ")
    assert message.partition("; did you mean ")[2] == (f"{hint}?" if hint else "")


def test_a_name_missing_in_a_neighbour_is_not_looked_for_in_the_study() -> None:
    write("WIDTH = SPACING\n", "studies/width_with_mistake.py")
    write(GOOD.replace("\nSPACE", "import width_with_mistake\n\nSPACE", 1))
    assert "NameError: name 'SPACING' is not defined; fix that line" in refusal()


def test_a_study_may_import_its_neighbours() -> None:
    write("WIDTH = 8\n", "studies/width_of_mine.py")
    write(
        GOOD.replace("\nSPACE", "from width_of_mine import WIDTH\n\nSPACE", 1).replace("(40, 8, 10)", "(40, WIDTH, 10)")
    )
    assert describe(load("mine"))["model"]["widths"] == [40, 8, 10]


def test_an_edited_neighbour_and_what_imports_it_are_imported_again() -> None:
    lines = {"direct": "import parts_of_mine as parts", "package": "from lab_of_mine import parts"}
    lines |= {"between": "import between_of_mine as parts"}
    text = GOOD.replace("(40, 8", "(40, parts.WIDTH")
    write("from parts_of_mine import WIDTH\n", "studies/between_of_mine.py")
    for width in (8, 123):
        for path in ("parts_of_mine.py", "lab_of_mine/parts.py"):
            write(f"WIDTH = {width}\n", f"studies/{path}")
        for name, line in lines.items():
            write(text.replace("\nSPACE", f"{line}\n\nSPACE", 1), f"studies/{name}.py")
            assert describe(load(f"studies/{name}.py"))["model"]["widths"] == [40, width, 10]


def test_a_neighbour_is_imported_again_only_after_an_edit() -> None:
    parts = write("WIDTH = 8\n", "studies/kept_of_mine.py")
    write(GOOD.replace("\nSPACE", "import kept_of_mine\n\nSPACE", 1))
    load("mine")
    module = sys.modules["kept_of_mine"]
    load("mine")
    assert sys.modules["kept_of_mine"] is module
    parts.write_text("WIDTH = no_number\n")
    assert "no_number" in refusal()
    parts.write_text("WIDTH = 123\n")
    load("mine")
    assert sys.modules["kept_of_mine"].WIDTH == 123


def test_an_edit_leaves_modules_that_do_not_use_the_file() -> None:
    write("from edited_of_mine import WIDTH\n", "studies/using_of_mine.py")
    write("import sys\nassert not hasattr(sys, 'once_of_mine')\nsys.once_of_mine = 1\n", "studies/once_of_mine.py")
    imports = "import once_of_mine, using_of_mine\n"
    write(GOOD.replace("\nSPACE", f"{imports}\nSPACE", 1).replace("(40, 8", "(40, using_of_mine.WIDTH"))
    try:
        for width in (8, 16):
            write(f"WIDTH = {width}\n", "studies/edited_of_mine.py")
            assert describe(load("mine"))["model"]["widths"] == [40, width, 10]
    finally:
        del sys.once_of_mine  # type: ignore[attr-defined]


def test_the_modules_of_a_package_stay_with_it() -> None:
    for width in (8, 16):
        write(f"from .a import WIDTH\nDEPTH = {width}\n", "studies/box_of_mine/__init__.py")
        write(f"WIDTH = {width}\n", "studies/box_of_mine/a.py")
        write("SIZE = 1\n", "studies/box_of_mine/b.py")
        text = GOOD.replace("\nSPACE", "import box_of_mine.b\n\nSPACE", 1)
        write(text.replace("(40, 8", "(40, box_of_mine.b.SIZE * box_of_mine.WIDTH"))
        assert describe(load("mine"))["model"]["widths"] == [40, width, 10]


@pytest.mark.parametrize("edited", ["mine", "late_of_mine"])
def test_a_loaded_study_has_no_fingerprint_after_an_edit(edited: str) -> None:
    texts = {"late_of_mine": "WIDTH = 8\n", "mine": GOOD.replace("\nSPACE", "import late_of_mine\n\nSPACE", 1)}
    for name, text in texts.items():
        write(text, f"studies/{name}.py")
    study = load("mine")
    fingerprint(study)
    write(texts[edited] + "DEPTH = 2\n", f"studies/{edited}.py")
    with pytest.raises(UsageError, match=f"{edited}.py has changed"):
        fingerprint(study)
    assert fingerprint(load("mine"))


def test_loading_twice_gives_one_digest() -> None:
    write(GOOD)
    assert digest(describe(load("mine"))) == digest(describe(load("mine")))
