"""The metadata of a model card: what the Hub sorts and searches by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from httpx2 import HTTPError
from huggingface_hub import EvalResult, ModelCard, ModelCardData, hf_hub_download
from yaml import YAMLError

from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.sources import EMBEDDED as EMBEDDED_REVIEWS
from nlp_transfer.data.sources import IN_MEMORY
from nlp_transfer.models.checkpoints.source import EMBEDDED

CARD_FILE = "README.md"
TASK = "text-classification"
PACKAGED = "embedded:"  # before the names of what ships with this package
EMBEDDED_BASE = {
    "base_model": "sentence-transformers/all-MiniLM-L6-v2",
    "license": "apache-2.0",
    "language": "en",
}
# The Hub's name of a metric, where ours says more.
HUB_METRICS = {
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}
AVERAGES = ("micro", "macro", "weighted")
INHERITED = ("license", "license_name", "license_link", "language")  # from the base's own card


def metadata(config: Config, metrics: dict[str, Any], base: dict[str, Any]) -> ModelCardData:
    """The metadata, `model-index` with every measured figure included.

    Args:
        base: what is known of the base checkpoint, as `base_metadata` gives it.
    """
    name = config.dataset.name
    return ModelCardData(
        **base,
        datasets=None if name == EMBEDDED_REVIEWS else public_name(config.dataset),
        eval_results=list(_results(config.dataset, metrics)),
        library_name="transformers",
        metrics=sorted(
            {_hub_metric(name) for split in metrics.values() for name in split["metrics"]}
        ),
        model_name=model_title(config),
        pipeline_tag=TASK,
        tags=["nlp_transfer"],
    )


def base_metadata(checkpoint: CheckpointConfig) -> dict[str, Any]:
    """Name, licence and language of the base checkpoint, as far as its own card gives them.

    The name of a local folder is private and left out; without a card there, or without a
    connection to the Hub, licence and language are unknown and left out too.
    """
    if checkpoint.name == EMBEDDED:
        return dict(EMBEDDED_BASE)
    local = Path(checkpoint.name)
    try:
        card = local / CARD_FILE
        if not local.is_dir():
            downloaded = hf_hub_download(checkpoint.name, CARD_FILE, revision=checkpoint.revision)
            card = Path(downloaded)
        data = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data
        inherited = {name: data.get(name) for name in INHERITED}
    except (OSError, ValueError, YAMLError, HTTPError):
        inherited = {}
    return inherited if local.is_dir() else {"base_model": checkpoint.name, **inherited}


def _results(dataset: DatasetConfig, metrics: dict[str, Any]) -> Iterator[EvalResult]:
    for split, figures in metrics.items():
        for name, value in figures["metrics"].items():
            if value is None:
                continue
            average = [average for average in AVERAGES if name.endswith(f"_{average}")]
            yield EvalResult(
                task_type=TASK,
                task_name="Text Classification",
                dataset_type=public_name(dataset) or "files",
                dataset_name=data_title(dataset),
                dataset_config=dataset.subset,
                dataset_split=split,
                dataset_revision=dataset.revision,
                metric_type=_hub_metric(name),
                metric_name=name,
                metric_value=value,
                metric_args={"average": average[0]} if average else None,
            )


def _hub_metric(name: str) -> str:
    for average in AVERAGES:
        name = name.removesuffix(f"_{average}")
    return HUB_METRICS.get(name, name)


def model_title(config: Config) -> str:
    """Task and checkpoint."""
    return f"{config.task}-{re.split('[/:]', without_path(config.checkpoint.name))[-1]}"


def without_path(name: str) -> str:
    """The last part of a local path, so that no folder of this machine is published."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def data_title(dataset: DatasetConfig) -> str:
    """The public name of a dataset, or a word for files."""
    name = public_name(dataset)
    if dataset.name == IN_MEMORY:
        return "tables given from Python"
    if name is None:
        return "local files"
    return f"{name} ({dataset.subset})" if dataset.subset else name


def public_name(dataset: DatasetConfig) -> str | None:
    """The Hub's name of a dataset, or of the one in this package; None for local files."""
    if dataset.name in (None, IN_MEMORY) or Path(dataset.name).is_dir():
        return None
    return dataset.name.removeprefix(PACKAGED)
