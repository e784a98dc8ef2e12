"""Finds texts to compare an export on: those a run was validated on, or a file's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.labels.known import load_labelled
from nlp_transfer.data.sources import Source, read_files
from nlp_transfer.data.usable_rows import read_texts
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.export.onnx_parity import Questions
from nlp_transfer.inference.classifier import find_model
from nlp_transfer.problems.base import some_of
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.runs.names import CONFIG_FILE, RUN_FILE
from nlp_transfer.runs.reopen import reopen
from nlp_transfer.tokenization.model_inputs import PAIRS
from nlp_transfer.utils.files import not_a_run, read_json

SHOWN = 3


def of_run(folder: Path, data: Any = None) -> Questions:
    """The validation split of a finished run, read again from where it was.

    Args:
        data: of a run whose data was given from Python, the same again.

    Raises:
        UserError: if there is no run, or its data has changed since.
    """
    find_model(folder)
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            ExitCode.CONFIG,
            f"{not_a_run(folder)}, so its validation texts are unknown. "
            "Add --data FILE --text COLUMN (and --label COLUMN where there are labels).",
        )
    elsewhere = "compare on other texts with --data FILE --text COLUMN"
    from_python = f"{elsewhere[0].upper()}{elsewhere[1:]}."
    _, corpus = reopen(folder, f"or {elsewhere}", from_python, data)
    split = corpus.deciding_split
    rows = corpus.rows(split)
    pairs = rows["text_pair"][:] if "text_pair" in rows.column_names else None
    references = corpus.references(split)
    source = "the run's validation split" if split == "validation" else "the run's rows"
    if corpus.folds is not None or read_json(folder / RUN_FILE).get("refit"):
        source += ", which the model has learned from"
    return Questions(rows["text"][:], references, source, pairs)


def of_file(  # noqa: PLR0913
    folder: Path,
    file: str,
    text: str,
    label: str | None,
    delimiter: str | None = None,
    text_pair: str | None = None,
) -> Questions:
    """The texts of a file (or a glob), with their labels or scores if a column is named.

    Args:
        delimiter: between the labels of one cell, where a text may have several.
        text_pair: the column of the second texts, for a model of text pairs.

    Raises:
        UserError: if a column is missing, or holds a label that the model does not have.
    """
    about = read_json(find_model(folder) / "config.json")
    trained_on_pairs = about.get(PAIRS)  # None: not known
    if trained_on_pairs is not None and trained_on_pairs != (text_pair is not None):
        raise UserError(
            ExitCode.CONFIG,
            f"{folder} answers for pairs of texts: add --text-pair COLUMN."
            if trained_on_pairs
            else f"{folder} answers for single texts: leave out --text-pair.",
        )
    sources = read_files(file, "--data")
    if label:
        decoder = Decoder.from_model_config(about)
        columns = label.split(",") if decoder.problem.reads_columns else [label]
        label_columns = columns if len(columns) > 1 else label
        config = DatasetConfig(
            text=text, text_pair=text_pair, label=label_columns, delimiter=delimiter
        )
        rows, truth = _labelled(sources, config, decoder)
        texts, pairs = rows["text"][:], rows["text_pair"][:] if text_pair else []
    else:
        (texts, pairs), truth = read_texts(sources, text, text_pair), None
    if not texts:
        raise UserError(ExitCode.DATA, f"--data {file} has no rows to compare on.")
    # The upload does not say in which folder the file was.
    place = file.partition("?")[0] if "://" in file else file
    name = place.rstrip("/").rpartition("/")[2]
    return Questions(texts, truth, name, pairs if text_pair else None)


def _labelled(
    sources: list[Source], config: DatasetConfig, decoder: Decoder
) -> tuple[Dataset, np.ndarray]:
    """The rows, and their references in the labels of the model."""

    def names(written: set[str], order: Sequence[str]) -> dict[str, str]:
        del order
        unknown = sorted(written - set(decoder.labels))
        if decoder.problem.has_labels and unknown:
            raise UserError(
                ExitCode.DATA,
                f"{', '.join(source.name for source in sources)} has labels that the model does "
                f"not have: {', '.join(unknown[:SHOWN])}. It has {some_of(decoder.labels)}.",
            )
        return {label: label for label in decoder.labels}

    dataset = replace(config, problem=decoder.problem.name)
    rows = load_labelled(sources, dataset, names, [])
    return rows, decoder.problem.references(rows["label"][:])
