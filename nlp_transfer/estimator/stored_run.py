"""The run folder of a fitted estimator; a pickle of the estimator holds its whole model."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import weakref
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.classifier import Classifier
from nlp_transfer.reporting.result import Result
from nlp_transfer.runs.names import CONFIG_FILE, METRICS_FILE, PREDICTIONS, RUN_FILE

PREFIX = "nlp_transfer-"  # of a temporary folder
# What travels in a pickle: the model and its figures, no row of the data.
PICKLED = ("model", PREDICTIONS, CONFIG_FILE, RUN_FILE, METRICS_FILE)


class StoredRun:
    """A finished run and its loaded model; a temporary folder is removed with the object."""

    def __init__(self, folder: Path, temporary: Path | None = None) -> None:
        self.folder = folder
        self._classifier: Classifier | None = None
        self._is_temporary = temporary is not None
        if temporary is not None:
            remove_with(self, temporary)

    @property
    def classifier(self) -> Classifier:
        """The exported model, loaded once."""
        if self._classifier is None:
            self._classifier = Classifier.load(self.folder)
        return self._classifier

    @property
    def result(self) -> Result:
        """The figures of the run."""
        return replace(Result.read(self.folder), temporary=self._is_temporary)

    def __getstate__(self) -> dict[str, Any]:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
            for name in PICKLED:
                place = self.folder / name
                files = sorted(place.rglob("*")) if place.is_dir() else [place]
                for file in filter(Path.is_file, files):
                    archive.write(file, file.relative_to(self.folder))
            if "model/config.json" not in archive.namelist():
                raise UserError(
                    ExitCode.RUN_FOLDER,
                    f"The folder of this estimator, {self.folder}, is gone; expected its model "
                    "there, which belongs into the pickle. Fit it again, or load what was saved.",
                )
        return {"name": self.folder.name, "content": content.getvalue()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        temporary = Path(tempfile.mkdtemp(prefix=PREFIX))
        folder = temporary / state["name"]
        with zipfile.ZipFile(io.BytesIO(state["content"])) as archive:
            archive.extractall(folder)
        self.__init__(folder, temporary)  # type: ignore[misc]


def remove_with(owner: object, folder: Path) -> None:
    """Remove a folder when its owner goes, or at the end of this process (not of its forks)."""
    weakref.finalize(owner, _remove, folder, os.getpid())


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
