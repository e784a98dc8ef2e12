"""Executes the tutorials and stores their outputs, which the documentation shows.

python scripts/run_notebooks.py [docs/tutorials/NAME.ipynb …]
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = DOCS / "tutorials"
SECONDS = 1800  # for one cell
BAR = re.compile(r"[█▏▎▍▌▋▊▉]|\|\s*\| 0/|\d%\|")  # of progress


def execute(notebook: Path, home: Path) -> Any:
    """The executed notebook; it runs in `home/tutorials`, beside a copy of `docs/data`.

    Raises:
        CellExecutionError: at the first cell that fails.
    """
    shutil.copytree(DOCS / "data", home / "data")
    (home / "tutorials").mkdir()
    opened = nbformat.read(notebook, as_version=4)
    resources = {"metadata": {"path": str(home / "tutorials")}}
    client = NotebookClient(opened, timeout=SECONDS, resources=resources, record_timing=False)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    here = {"PATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    # Nothing is loaded from the Hub, and the output has no colours and no bars.
    here |= {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "TQDM_DISABLE": "1"}
    return client.execute(env={**os.environ, **here})


def as_shown(notebook: Any, home: Path) -> Any:
    """The notebook as the documentation shows it: logs in one piece, without bars and folders."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            streams = [o for o in cell.outputs if o.output_type == "stream"]
            others = [o for o in cell.outputs if o.output_type != "stream"]
            text = _log("".join(stream.text for stream in streams), home)
            log = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
            cell.outputs = [*log, *others]
    notebook.metadata = {
        "kernelspec": notebook.metadata["kernelspec"],
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    return notebook


def _log(text: str, home: Path) -> str:
    lines = []
    for line in text.replace(f"{home}/", "").split("\n"):
        overwrites = line.split("\r")
        shown = [part.rstrip() for part in overwrites if part.strip() and not BAR.search(part)]
        if shown or not any(map(str.strip, overwrites)):
            lines.append(shown[-1] if shown else "")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n" if lines else ""


def main(notebooks: list[str]) -> None:
    """Execute the notebooks that are named, or all."""
    for notebook in map(Path, notebooks or sorted(map(str, TUTORIALS.glob("*.ipynb")))):
        with tempfile.TemporaryDirectory() as home:
            executed = as_shown(execute(notebook, Path(home)), Path(home))
        nbformat.write(executed, notebook)
        print(notebook.name)


if __name__ == "__main__":
    main(sys.argv[1:])
