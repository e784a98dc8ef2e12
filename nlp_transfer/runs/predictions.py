"""Keeps what a run answered, row by row: runs can then be compared, and their errors read."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from zipfile import BadZipFile

import numpy as np

from nlp_transfer.data.columns import each_cell
from nlp_transfer.errors import ExitCode, UserError, damaged
from nlp_transfer.runs.names import PREDICTIONS

if TYPE_CHECKING:
    from nlp_transfer.data.corpus import Corpus

# What numpy raises of a file that is empty, cut off or of another kind.
UNREADABLE = (EOFError, BadZipFile, zlib.error, ValueError, KeyError, TypeError)


class Evaluation(Protocol):
    """What is kept of the evaluation of a split."""

    @property
    def logits(self) -> np.ndarray:
        """float32 [documents, labels], after calibration."""

    @property
    def references(self) -> np.ndarray:
        """As `Corpus.references` gives them."""


def write_predictions(
    folder: Path, evaluations: Mapping[str, Evaluation], corpus: Corpus
) -> dict[str, str]:
    """Write `predictions/<split>.npz` of each evaluated split into the folder of a run.

    Rows are in the order of the corpus. Texts are not kept.

    Returns:
        By split, the SHA-256 of its texts and references: equal where the rows are.
    """
    (folder / PREDICTIONS).mkdir(exist_ok=True)
    for split, evaluation in evaluations.items():
        file = folder / PREDICTIONS / f"{split}.npz"
        np.savez(file, logits=evaluation.logits, references=evaluation.references)
    return {split: rows_digest(corpus, split) for split in evaluations}


def read_predictions(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [documents, labels] and references of a split, in the corpus's order.

    Raises:
        UserError: if the run keeps none, or they are damaged.
    """
    file = folder / PREDICTIONS / f"{split}.npz"
    if not file.is_file():
        raise UserError(
            ExitCode.RUN_FOLDER,
            f"{folder} keeps no answers for its {split} split: expected {file}. "
            "Train it again with overwrite=true.",
        )
    try:
        with file.open("rb") as opened, np.load(opened) as arrays:
            return arrays["logits"], arrays["references"]
    except UNREADABLE as error:
        raise damaged(file, "it holds no stored answers") from error


def rows_digest(corpus: Corpus, split: str) -> str:
    """SHA-256 of the texts and references of a split, in their order."""
    rows = corpus.rows(split)
    digest = hashlib.sha256()
    for column in ("text", "text_pair"):
        if column in rows.column_names:
            for text in each_cell(rows, column):
                digest.update(f"{text}\0".encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    digest.update(corpus.references(split).tobytes())
    return digest.hexdigest()
