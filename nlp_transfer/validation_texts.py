"""Finds texts to compare an export on: those a run was validated on, or a file's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from nlp_transfer.classifier import find_model, label_names, refuse_other_answers
from nlp_transfer.config import Config, plain
from nlp_transfer.data import Corpus, load_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inputs import PAIRS
from nlp_transfer.onnx_export import DOOR, Questions
from nlp_transfer.run_folder import CONFIG_FILE, RUN_FILE, read_json
from nlp_transfer.schema import to_config
from nlp_transfer.sources import read_files

SHOWN = 3


def of_run(folder: Path) -> Questions:
    """The validation split of a finished run, read again from where it was.

    Raises:
        UserError: if there is no run, or its data has changed since.
    """
    refuse_other_answers(find_model(folder), DOOR)
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            ExitCode.CONFIG,
            f"{folder} is not a run, so its validation texts are unknown. "
            "Add --data FILE --text COLUMN (and --label COLUMN where there are labels).",
        )
    _, corpus = reopen(folder, "or compare on other texts with --data FILE --text COLUMN")
    rows = corpus.splits["validation"]
    references = np.array(rows["label"], dtype=np.int64)
    pairs = list(rows["text_pair"]) if "text_pair" in rows.column_names else None
    return Questions(list(rows["text"]), references, "the run's validation split", pairs)


def reopen(folder: Path, otherwise: str) -> tuple[Config, Corpus]:
    """What a run was asked, and its data, read again from where it was.

    Raises:
        UserError: if the data has changed since.
    """
    config = to_config(plain(OmegaConf.load(folder / CONFIG_FILE)))
    corpus = load_corpus(config.dataset, config.seed, config.evaluation.slices)
    if corpus.fingerprint != read_json(folder / RUN_FILE)["corpus"]:
        raise UserError(
            ExitCode.DATA,
            f"The data of {folder} has changed since it was trained. Put it back, {otherwise}.",
        )
    return config, corpus


def of_file(folder: Path, file: str, text: str, label: str | None) -> Questions:
    """The texts of a file (or a glob), with their labels if a column is named.

    Raises:
        UserError: if a column is missing, or holds a label that the model does not have.
    """
    model = find_model(folder)
    refuse_other_answers(model, DOOR)
    about = read_json(model / "config.json")
    if about.get(PAIRS):
        raise UserError(
            ExitCode.CONFIG,
            f"{folder} answers for pairs of texts, and --data has one text a row. Name the run "
            "instead: its validation pairs are compared.",
        )
    labels = label_names(about)
    texts: list[str] = []
    references: list[int] = []
    for source in read_files(file, "--data"):
        for column in (text, *([label] if label else [])):
            if column not in source.table.column_names:
                raise UserError(
                    ExitCode.DATA,
                    f"{column!r} is not a column of {source.name}; it has "
                    f"{', '.join(source.table.column_names)}.",
                )
        texts += [str(value) for value in source.table[text]]
        if label:
            found = [str(value) for value in source.table[label]]
            unknown = sorted({value for value in found if value not in labels})
            if unknown:
                raise UserError(
                    ExitCode.DATA,
                    f"{source.name} has labels that the model does not have: "
                    f"{', '.join(unknown[:SHOWN])}. It has {', '.join(labels)}.",
                )
            references += [labels.index(value) for value in found]
    if not texts:
        raise UserError(ExitCode.DATA, f"--data {file} has no rows to compare on.")
    return Questions(texts, np.array(references, dtype=np.int64) if label else None, file)
