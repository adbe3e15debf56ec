"""`hpo best --python` of a real study: its script repeats a rerun without hpo, and what has changed is refused."""

from pathlib import Path

import pandas as pd
import pytest
from plain_scripts import Runner, read_curves
from typer.testing import CliRunner

import hpo
from hpo.cli import app
from hpo.errors import UsageError

STUDY = """
import torch
from torch import nn

import hpo

WIDTH = 9


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(40, WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, inputs):
        return self.second(torch.relu(self.first(inputs)))


STUDY = hpo.Study(
    data=hpo.Mnist1d(samples=300, label_noise=0.2),
    model=Net,
    baseline="AdamW",
    configurations=[hpo.Configuration("AdamW"), hpo.Configuration("GNVR", regularizer="gnvr")],
    epochs=9,
    trials=2,
    seeds=4,
    tuning_runs=2,
)
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a study that has been run for 3 epochs, under another name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPO_STORAGE", raising=False)
    path = tmp_path / "studies" / "taken.py"
    path.parent.mkdir()
    path.write_text(STUDY)
    words = ["run", "taken", "--name", "other", "--epochs", "3", "--workers", "1", "--device", "cpu"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    return path


def winner(best: pd.DataFrame) -> pd.Series:
    """Of the rows with the settings to use, that which is best against the mean of the configurations."""
    chosen = best[best["chosen"]]
    return chosen.loc[chosen["compared_score"].idxmax()]


def script_of(*words: str) -> str:
    result = CliRunner().invoke(app, ["best", "other", "--python", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def refusal(*words: str) -> str:
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(app, ["best", "other", *words], catch_exceptions=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_script_repeats_a_rerun(study: Path, tmp_path: Path) -> None:
    results = hpo.results("other")
    script = tmp_path / "script.py"
    runner = Runner()
    try:
        for words in (["-c", "GNVR"], ["-c", "AdamW", "--data", str(tmp_path / "data.pt")]):
            script.write_text(script_of(*words))
            printed = read_curves(runner.output(script))
            best = winner(results.best[results.best.configuration == words[1]])
            curves = results.curves[(results.curves.phase == "rerun") & (results.curves.configuration == words[1])]
            of_run = curves[curves.tuning_run == best.tuning_run]
            own = of_run[of_run.seed == of_run.seed.min()]
            assert f"SEED = {of_run.seed.min()}" in script.read_text()
            for name in ("train_loss", "validation_loss", "validation_accuracy"):
                assert printed[name] == pytest.approx(list(own[name]), abs=1e-4)  # after 3 epochs in float32
    finally:
        runner.close()
    assert script_of().startswith(f'"""{winner(results.best).configuration} ')

    written = (tmp_path / "data.pt").read_bytes()
    assert "exists" in refusal("--python", "--data", "data.pt")
    assert (tmp_path / "data.pt").read_bytes() == written

    pair = 'hpo.Configuration("AdamW"), hpo.Configuration("GNVR", regularizer="gnvr")'
    assert pair in STUDY
    study.write_text(STUDY.replace(pair, ", ".join(reversed(pair.split(", ", 1)))))
    assert "GNVR" in script_of("-c", "GNVR"), "the order of configurations is no change"
    study.write_text(STUDY.replace("WIDTH = 9", "WIDTH = 10"))
    assert "code" in refusal("--python")
    study.write_text(STUDY.replace("label_noise=0.2", "label_noise=0.3"))
    assert "label_noise" in refusal("--python")
    study.unlink()
    assert "no study file" in refusal("--python")
    assert "--json" in refusal("--python", "--json")
    assert "--data" in refusal("--data", "x.pt")
