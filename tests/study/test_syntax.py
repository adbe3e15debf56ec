"""Digests of code by syntax tree."""

from typing import Any

import pytest

from hpo import Study, log_range
from hpo.study.study_syntax import study_digests
from hpo.study.syntax import canonical, digest, lambda_digest, module_digests, parse, process_dependent_names

PINNED = {
    "imports": "f4879f5942b2ae76",
    "f": "b2ed7a9c79dee9ce",
    "K": "391505a7517db76e",
    "top-level statements": "d8d0611a5d25dadf",
    **dict.fromkeys("UVW", "ccd81ebf2817414e"),
}


def test_the_digests_are_pinned_for_every_version_of_python() -> None:
    """A digest that depended on the version of Python would make every stored study look changed."""
    source = """
from . import a, b as c
import d.e
@deco(1, x=-2.5e3)
def f(a, /, b: int = 0x10, *c, d=None, **e) -> "é":
    "Words."
    try:
        y = f"{a!r:>{b}}" "x" f"{c}" f"{{ {a = } {b:{c}.{d}}" f""
        return y + b"\\x00".decode(), [x async for x in y if x], {**e, 1: 2j}
    except* ValueError as error:
        raise
    with open(a) as g, h: pass
    match a:
        case {"k": [1, *_], **rest} if rest: x: int = 1
        case Point(x=0) | None: del x
    lambda *, k=1: (yield)
    return a[1:2, ...], a if b else c, not a, 1 < 2 <= 3, (z := 10 ** 5000)
class K(B, metaclass=M):
    x: int
    async def g(self):
        global w; await w; assert w, "no"
for i in range(3): continue
W, (V, *U) = W = 1, (2, 3)
"""
    assert module_digests(parse(source.encode())) == PINNED


def test_texts_and_planned_numbers_do_not_count_wherever_a_study_is_created() -> None:
    def digests(words: str, call: str = "Study") -> dict[str, str]:
        return module_digests(parse(f"def make(w):\n    return {call}({words}, model=w)\n".encode()))

    free = "title='a', hypothesis=f'{w}', name='n', trials=4, seeds=5, tuning_runs=6"
    assert digests(free) == digests("title='b'") != digests("epochs=3")
    assert digests(free, "hpo.Study") == digests("seeds=1", "hpo.Study")
    assert digests("trials=4", "other") != digests("trials=5", "other")


def test_a_name_given_to_something_else_than_a_study_counts() -> None:
    def digests(source: str, name: str) -> dict[str, str]:
        return module_digests(parse(source.format(name).encode()))

    inside = "def net():\n    return build(replace(BASE, name='{}'))\n"
    outside = "WIDE = dataclasses.replace(BASE, name='{}')\n"
    assert digests(inside, "relu") != digests(inside, "tanh")
    assert digests(outside, "relu") == digests(outside, "tanh")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("START = time.time()\nAGE = START + 1\nWIDTH = 4", {"START", "AGE"}),
        ("NAME: str = f'{socket.gethostname()}'\nCORES = os.cpu_count() or 1", {"NAME", "CORES"}),
        ("class A:\n    def f(self):\n        self.begun = datetime.now()\n        width = time.time()", {"begun"}),
        ("WIDTH = int(os.environ['WIDTH'])", set()),
        ("WIDTH = int(sys.argv[1])", set()),
    ],
)
def test_names_made_from_the_process(source: str, names: set[str]) -> None:
    assert process_dependent_names(parse(source.encode())) == names


def test_the_digest_of_a_lambda_is_that_of_its_own_code() -> None:
    source = "a, b = lambda: 1, lambda: (lambda x: x + 2)\nc = lambda: (3\n)\n"
    space: dict[str, Any] = {}
    exec(compile(source, "somewhere", "exec"), space)
    codes = [function.__code__ for function in (space["a"], space["b"], space["b"](), space["c"])]
    digests = [lambda_digest(parse(source.encode()), code) for code in codes]
    alone = [digest(canonical(parse(text).body[0].value)) for text in (b"lambda:1", b"lambda:lambda x:x+2")]  # type: ignore[attr-defined]
    assert digests[:2] == alone and len(set(digests)) == 4


def test_declarations_of_a_study_are_not_code() -> None:
    space = {"Study": Study, "log_range": log_range, "RATES": {}, "STUDIES": {}}

    def counted(source: str, variant: str = "") -> set[str]:
        return set(study_digests(parse(source.encode()), space, variant))

    assert counted("RATES = {'learning_rate': log_range(1, 2)}\nSTUDY = Study(space=RATES, title=name())") == set()
    assert counted("RATES = 3\ndef f(): return RATES\nSTUDY = Study(f)") == {"RATES", "f"}
    assert counted("RATES = 3\nOTHER = RATES\ndef f(): return OTHER\nSTUDY = Study(f)") == {"RATES", "OTHER", "f"}
    assert counted("RATES = 3\ndef f(): return globals()['RATES']\nSTUDY = Study(f)") == {"RATES", "STUDY", "f"}
    assert counted("for n in (1, 2):\n    STUDIES[n] = Study(epochs=n)\nSTUDIES.update({})\nprint(STUDIES)") == set()
    assert counted("STUDY = Study(model=lambda: 1)") == counted("STUDY = Study(data=own(1))") == {"STUDY"}
    assert counted("STUDY = Study(title=own(1))") == set() != counted("STUDY = Study(space=dict(title=own(1)))")
    assert counted("STUDIES = {'a': Study(), 'b': Study(own(1))}", "a") == set()
    assert counted("STUDIES = {'a': Study(), 'b': Study(own(1))}", "b") == {"STUDIES"}
    assert counted("import torch\ntorch.x = 1\nSTUDY = Study()") == {"imports", "torch"}
    assert counted("import torch\nSTUDY = Study()") == set()
    assert counted("import json, torch\nfrom hpo import MLP\nSTUDY = Study()") == set()
    assert counted("import some_patch\nSTUDY = Study()") == {"imports"}
    assert counted("import some_parts\nSTUDY = Study(epochs=some_parts.EPOCHS)") == set()
