"""A study in a real notebook kernel: progress while it runs, and the results as HTML."""

import textwrap
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

STUDY = """
import hpo
study = hpo.Study(
    name="small", data=hpo.Mnist1d(samples=200), model=hpo.MLP((40, 4, 10)), epochs=1, trials=2, seeds=3,
    tuning_runs=1, baseline="A", configurations=[hpo.Configuration("A"), hpo.Configuration("B")],
)
results = hpo.run(study, device="cpu")
"""


@pytest.mark.filterwarnings("ignore")  # those of the packages that run notebooks
def test_a_study_runs_in_a_notebook(tmp_path: Path) -> None:
    code = [textwrap.dedent(STUDY), "results", "results.figure(4)", "results.verdicts"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in code])
    nbclient.NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(tmp_path)}}).execute()
    progress, shown, figure, verdicts = ([output.get("data", {}) for output in cell.outputs] for cell in notebook.cells)
    assert any("2 of 2" in data.get("text/html", "") and "3 of 3" in data["text/html"] for data in progress)
    assert "B against A" in shown[0]["text/html"]
    assert "application/vnd.plotly.v1+json" in figure[0]
    assert "verdict" in verdicts[0]["text/html"]
