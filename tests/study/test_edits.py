"""One edit of every kind in `edits.txt`, between two loads of a study file: seen wherever the value ends up."""

import os
from pathlib import Path

import pytest

from hpo import load
from hpo.study.definition import describe
from hpo.study.fingerprint import fingerprint

HEAD = """
import abc, collections, contextlib, enum, functools, types, typing
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from hpo import MLP, Configuration, Mnist1d, Regularizer, Study

DATA, MODEL, LOSS, SCHEDULE, METRICS, REG = Mnist1d(samples=100), MLP((40, 4, 10)), None, None, {}, "gnvr"
"""
TAIL = """
STUDY = Study(
    data=DATA, model=MODEL, loss=LOSS, schedule=SCHEDULE, metrics=METRICS, baseline="A", epochs=1, trials=1, seeds=2,
    configurations=(Configuration("A"), Configuration("B", regularizer=REG)),
)
"""
# name -> the edit and the code that is edited; variables in capitals are the study's parts.
EDITS = {
    block.partition(": ")[0]: block.partition(": ")[2]
    for block in (Path(__file__).parent / "edits.txt").read_text().split("=== ")[1:]
}


def inlined(code: str) -> str:
    """The same study with its parts written where they are used."""
    lines, tail = [], TAIL
    for line in code.splitlines():
        name, _, value = line.partition(" = ")
        if name in ("DATA", "MODEL", "LOSS", "SCHEDULE", "METRICS", "REG"):
            tail = tail.replace(f"={name},", f"={value},").replace(f"={name})", f"={value})")
        else:
            lines.append(line)
    return "\n".join([*lines, tail])


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("name", EDITS)
def test_the_edit_is_seen(name: str, inline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    edit, _, code = EDITS[name].partition("\n")
    old, new = edit.split(" -> ")
    text = HEAD + (inlined(code) if inline else code + TAIL)
    assert text.count(old) == 1
    prints = []
    for place, version in enumerate((text, text, text.replace(old, new))):
        Path("s.py").write_text(version)
        os.utime("s.py", (place, place))  # what Python has compiled is another version's
        study = load("s.py")
        prints.append((fingerprint(study), describe(study)))
    assert prints[0] == prints[1] != prints[2]
