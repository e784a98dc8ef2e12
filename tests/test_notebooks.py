"""In a notebook: summaries, nothing in red, errors of one message, the report inline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import make_rows, write_csv
from nbclient import NotebookClient

CELLS = [
    "import pandas as pd\n"
    "from nlp_transfer import Result, TextClassifier, UserError, compose, run\n"
    "frame = pd.read_csv('rows.csv')",
    "config = compose('+task=classify', 'checkpoint.name=tiny', 'strategy=full',\n"
    "    'strategy.epochs=2', 'strategy.min_steps=0', 'evaluation.folds=0', 'training.cpu=true')\n"
    "result = run(config, data=frame)\n"
    "result",
    "result.show(height=500)",
    "model = TextClassifier('tiny', 'feature_extraction', overrides=['evaluation.folds=0'])\n"
    "model.fit(frame['text'], frame['label'])",
    "model.predict(['a lovely film', None])",
    "compose('+task=classify', 'training.bach_size=3')",
    "model.fit('one text', ['label'])",
    "model.report_",
]


@pytest.fixture(scope="module")
def cells(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The cells of a notebook that was executed by a kernel of its own."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "tiny").symlink_to(checkpoints["bert"])
    write_csv(folder / "rows.csv", make_rows(64))
    code = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=code)
    options = {"timeout": 600, "kernel_name": "python3", "allow_errors": True}
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **options).execute()
    return notebook.cells


def outputs(cell: Any, kind: str) -> list[Any]:
    return [output for output in cell.outputs if output.output_type == kind]


@pytest.mark.slow
def test_a_notebook_shows_results_and_nothing_in_red(cells: list[Any]) -> None:
    imports, trained, shown, fitted, predicted, misspelt, wrong, report = cells
    red = [o.text for cell in cells for o in outputs(cell, "stream") if o.name == "stderr"]
    assert red == []
    for cell in (imports, trained, shown, fitted, predicted, report):
        assert not outputs(cell, "error"), outputs(cell, "error")
    log = "".join(output.text for output in outputs(trained, "stream"))
    assert "rows: train" in log and "Model: " not in log  # the result shows itself, once
    assert "stage all" in log  # its progress
    [table] = outputs(trained, "execute_result")
    assert "<th>accuracy</th>" in table.data["text/html"]
    assert table.data["text/plain"].startswith("Result(runs/classify-tiny-")
    [frame] = outputs(shown, "display_data")
    page = frame.data["text/html"]
    assert (
        page.startswith('<div><iframe title="Report" srcdoc="&lt;!doctype html') and "500" in page
    )
    assert "negative" not in "".join(o.text for o in outputs(fitted, "stream"))  # no summary
    [answer] = outputs(predicted, "execute_result")
    assert "None" in answer.data["text/plain"]
    [error] = outputs(misspelt, "error")
    assert error.traceback == [
        "UserError: training.bach_size is not a key of the configuration; the nearest one is "
        "training.batch_size."
    ]
    [error] = outputs(wrong, "error")
    assert error.traceback[0].startswith("InputError: X is one text") and len(error.traceback) == 1
