"""Reads the data of a finished run again from where it was."""

from __future__ import annotations

from pathlib import Path

from nlp_transfer.config.loading import read_config
from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import Corpus, load_run_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.runs.folder import CONFIG_FILE, RUN_FILE
from nlp_transfer.utils.files import read_json


def reopen(folder: Path, otherwise: str) -> tuple[Config, Corpus]:
    """What a run was asked, and its data, read again from where it was.

    Raises:
        UserError: if the data has changed since.
    """
    config = read_config(folder / CONFIG_FILE)
    corpus = load_run_corpus(config)
    if corpus.fingerprint != read_json(folder / RUN_FILE)["corpus"]:
        raise UserError(
            ExitCode.DATA,
            f"The data of {folder} has changed since it was trained. Put it back, {otherwise}.",
        )
    return config, corpus
