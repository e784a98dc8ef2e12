"""What a table is to be answered with, and whether that is possible."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from nlp_transfer.data.columns import require_columns
from nlp_transfer.data.formats.registry import WINDOW, ReadOptions, Window
from nlp_transfer.data.formats.windows import CELLS, columns_of, raw_column
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.classifier import find_model
from nlp_transfer.inference.engines import ENGINES
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.utils.hashing import digest_of


@dataclass(frozen=True)
class PredictionRequest:
    """Which table is to be answered, and how."""

    source: Path | None  # None: the standard input
    kind: str  # of the source
    out: Path | None  # None: the standard output
    out_kind: str
    text: str  # a column
    text_pair: str | None = None
    probabilities: bool = False
    prefix: str = ""  # of the names of the new columns
    delimiter: str = "|"  # between several labels, where the answers are texts
    options: ReadOptions = ReadOptions(keys="--")
    called: str | None = None  # the source, where it is no path of this machine

    @property
    def name(self) -> str:
        """What a person calls the source."""
        if self.called is not None:
            return self.called
        return "the standard input" if self.source is None else str(self.source)


def check_request(request: PredictionRequest, decoder: Decoder) -> None:
    """Stop at what this model cannot answer.

    Raises:
        UserError: at probabilities of scores, and at labels that could not be told apart.
    """
    if request.probabilities and not decoder.problem.has_labels:
        raise UserError(
            ExitCode.CONFIG, "The model answers with scores, which have no --probabilities."
        )
    ambiguous = [label for label in decoder.labels if request.delimiter in label]
    several = decoder.problem.several
    if several and ambiguous and request.out_kind in CELLS:
        raise UserError(
            ExitCode.CONFIG,
            f"The label {ambiguous[0]!r} holds the --delimiter {request.delimiter!r}. Choose "
            "another, or write the answers as .parquet or .jsonl, where they are lists.",
        )


def check_texts(window: Window, request: PredictionRequest) -> None:
    """The columns of texts must be there.

    Raises:
        UserError: with the columns that there are.
    """
    if not len(window) and not isinstance(window, pa.Table):
        return  # no rows, no shape
    required = (("--text", request.text), ("--text-pair", request.text_pair))
    require_columns(
        columns_of(window), required, request.name, lambda name: raw_column(window, name)
    )


def check_columns(window: Window, request: PredictionRequest, decoder: Decoder) -> None:
    """The columns of texts must be there, those of the answers must not.

    Raises:
        UserError: with the columns that there are.
    """
    check_texts(window, request)
    there = columns_of(window)
    new = [f"{request.prefix}{name}" for name in decoder.problem.columns]
    if request.probabilities:
        new += [name for name in there if name.startswith(f"{request.prefix}probability_")]
    existing = [name for name in new if name in there]
    if existing:
        raise UserError(
            ExitCode.DATA,
            f"{request.name} has a column {existing[0]!r} already. Name the answers differently, "
            "as in --prefix predicted_",
        )


def identity_of(request: PredictionRequest, folder: Path, backend: str) -> dict[str, Any]:
    """All that the answers are a function of."""
    source: dict[str, Any] = {"name": request.name}
    if request.source is not None:
        status = request.source.stat()
        source = {
            "name": str(request.source.resolve()),
            "bytes": status.st_size,
            "modified": status.st_mtime_ns,
        }
    return {
        "source": source,
        "model": _fingerprint(find_model(folder), backend),
        "backend": backend,
        "reading": [
            request.options.encoding,
            request.options.separator,
            request.options.quoting.value,
        ],
        "columns": [request.text, request.text_pair],
        "answers": [
            request.prefix,
            request.probabilities,
            request.out_kind,
            request.delimiter,
        ],
        "window": WINDOW,
    }


def _fingerprint(model: Path, backend: str) -> str:
    files = [file for pattern in ENGINES.find(backend).files for file in model.glob(pattern)]
    return digest_of(sorted((*model.glob("*.json"), *files)))
