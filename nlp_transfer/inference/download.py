"""Fetches a classifier by its name on the Hub."""

from __future__ import annotations

import re
from pathlib import Path

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.engines import ENGINES
from nlp_transfer.network import use_cache_if_unreachable
from nlp_transfer.utils.files import runs_nearby

NAME = re.compile(r"[\w.-]+/[\w.-]+")
FILES = ("*.json", "*.txt", "*.model", "*.jinja")  # beside those of the engine


def local_folder(place: str | Path, backend: str = "torch") -> Path:
    """The folder itself, or the download of `user/name`, which the cache keeps.

    Raises:
        UserError: if the Hub does not have it, or cannot be reached.
    """
    folder = Path(place)
    if folder.exists() or not NAME.fullmatch(str(place)):
        return folder
    from huggingface_hub import constants, snapshot_download

    unreachable = use_cache_if_unreachable()
    files = [*FILES, *ENGINES.find(backend).files]
    try:
        return Path(snapshot_download(str(place), allow_patterns=files))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        if unreachable is not None:
            reason = [f"the Hub cannot be reached ({unreachable}), and it is not in the cache."]
        elif constants.HF_HUB_OFFLINE:
            reason = ["it is not in the cache, and HF_HUB_OFFLINE is set."]
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{place} cannot be opened as a classifier: there is no such folder "
            f"(seen from {Path.cwd()}), and as a name of the Hub: {reason[0]}"
            f"{runs_nearby(folder)}",
        ) from error
