"""Reads the `config.yaml` of a run without OmegaConf, whose import takes 0.2 s."""

from __future__ import annotations

from pathlib import Path

import yaml

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.errors import damaged, no_file

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is not everywhere


def text_of(file: Path) -> str:
    """Its content.

    Raises:
        UserError: it is not there, or no text.
    """
    if not file.is_file():
        raise damaged(file, no_file(file))
    try:
        return file.read_text(encoding="utf-8")
    except (ValueError, OSError) as error:
        raise damaged(file, "it is no YAML") from error


def refuse_cut_off(file: Path, text: str) -> None:
    """Refuse a file that ends in the middle of a line: its last keys would have their defaults."""
    if not text.endswith("\n"):
        raise damaged(file, f"it is cut off in line {len(text.splitlines())}, which has no end")


def text_columns(file: Path) -> tuple[str, str | None]:
    """Names of the columns of texts and of second texts that a run has read.

    Raises:
        UserError: it holds none.
    """
    content = text_of(file)
    try:
        tree = yaml.load(content, LOADER)
    except yaml.YAMLError as error:
        refuse_cut_off(file, content)
        raise damaged(file, "it is no YAML") from error
    dataset = tree.get("dataset") if isinstance(tree, dict) else None
    if not isinstance(dataset, dict):
        raise damaged(file, "it holds no configuration")
    refuse_cut_off(file, content)
    text = dataset.get("text", DatasetConfig.text)
    text_pair = dataset.get("text_pair", DatasetConfig.text_pair)
    if not isinstance(text, str) or not isinstance(text_pair, str | None):
        raise damaged(file, "its columns of texts are no names")
    return text, text_pair
