"""The columns of texts that a finished run has read."""

from __future__ import annotations

from pathlib import Path

import yaml

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.errors import damaged

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is not everywhere


def saved_text_columns(file: Path) -> tuple[str, str | None]:
    """Names of the columns of texts and of second texts, from the `config.yaml` of a run.

    `read_config` checks and types all of it, with OmegaConf, which takes 0.2 s.

    Raises:
        UserError: if it holds none.
    """
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), LOADER)
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise damaged(file, "it is no YAML") from error
    dataset = tree.get("dataset") if isinstance(tree, dict) else None
    if not isinstance(dataset, dict):
        raise damaged(file, "it holds no configuration")
    text = dataset.get("text", DatasetConfig.text)
    text_pair = dataset.get("text_pair", DatasetConfig.text_pair)
    if not isinstance(text, str) or not isinstance(text_pair, str | None):
        raise damaged(file, "its columns of texts are no names")
    return text, text_pair
