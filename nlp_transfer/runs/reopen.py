"""Reads the data of a finished run again from where it was."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from nlp_transfer.config.loading import read_config
from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import Corpus, load_run_corpus
from nlp_transfer.data.memory import tables_by_split
from nlp_transfer.data.sources import IN_MEMORY, SPLITS
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.runs.names import CONFIG_FILE, RUN_FILE
from nlp_transfer.utils.files import read_json


def reopen(
    folder: Path, otherwise: str, from_python: str, data: Any = None
) -> tuple[Config, Corpus]:
    """What a run was asked, and its data, read again from where it was.

    Args:
        otherwise: what else can be done where the data has changed.
        from_python: what can be done where the data was given from Python.
        data: of such a run, the same again.

    Raises:
        UserError: if the data has changed since, or was given from Python and is not given again.
    """
    config = read_config(folder / CONFIG_FILE)
    if config.dataset.name == IN_MEMORY and data is None:
        raise UserError(
            ExitCode.DATA,
            f"The data of {folder} was given from Python, so no command can read it again. "
            f"{from_python}",
        )
    try:
        corpus = load_run_corpus(config, None if data is None else tables_by_split(data))
    except UserError as error:
        raise UserError(error.code, f"{error}{_from_elsewhere(config)}") from error
    if corpus.fingerprint != read_json(folder / RUN_FILE)["corpus"]:
        raise UserError(
            ExitCode.DATA,
            f"The data of {folder} has changed since it was trained. Put it back, {otherwise}.",
        )
    return config, corpus


def _from_elsewhere(config: Config) -> str:
    """A hint where files are missing that the run named from the folder it was started in."""
    if config.dataset.name is not None:
        return ""
    places = [place for split in SPLITS for place in config.dataset.places(split)]
    relative = [p for p in places if "://" not in p and not Path(p).expanduser().is_absolute()]
    if all(Path(place).exists() or glob.glob(place) for place in relative):  # noqa: PTH207
        return ""
    return " The run names it from the folder in which it was started: type the command there."
