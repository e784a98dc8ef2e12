"""Loads a pretrained checkpoint as a classifier."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    set_seed,
)

from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.checkpoints.adapters import merge_adapter, outputs_of
from nlp_transfer.models.checkpoints.folder import encoder_folder, explain, has_tokenizer
from nlp_transfer.models.checkpoints.parts import (
    join_tokenizer,
    refuse_empty_tokenizer,
    refuse_other_tokenizer,
    refuse_unfitting_weights,
    shape_conflicts,
)
from nlp_transfer.models.checkpoints.source import EMBEDDED, Source, locate
from nlp_transfer.models.head import adapt_head, labels_of, set_labels
from nlp_transfer.models.shortcuts.linear_maps import fast_linear_maps
from nlp_transfer.models.shortcuts.sharding import is_sharded
from nlp_transfer.models.structure import ModelStructure, find_structure, keep_layers
from nlp_transfer.models.tokenizers import longest_input
from nlp_transfer.network import use_cache_if_unreachable
from nlp_transfer.problems import Problem
from nlp_transfer.problems.detection import remember_problem
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.utils.logging import logger, quiet

# Missing files, foreign configurations, weights that are damaged or do not fit.
LOADING_FAILS_WITH: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    KeyError,
    ImportError,
    RuntimeError,
    AttributeError,
    TypeError,
    SafetensorError,
)


@dataclass(frozen=True)
class Pretrained:
    """A classifier with our labels, its own tokenizer, and what is known of both."""

    model: PreTrainedModel
    tokenizer: Any
    structure: ModelStructure
    max_tokens: int  # longest input, special tokens included
    own_head: bool = False  # the checkpoint's, which has the same labels


def load_pretrained(
    config: CheckpointConfig,
    labels: tuple[str, ...],
    seed: int,
    problem: Problem = SINGLE_LABEL,
) -> Pretrained:
    """Load a checkpoint in float32 with a head for `labels`; new weights are drawn from `seed`.

    A head that the checkpoint already has is kept, its rows in our order, where its labels are ours
    by name; else its last layer is made new.

    Raises:
        UserError: the checkpoint is missing, gated, pickled, or not a text encoder.
    """
    source, trust = locate(config.name), _trust(config)
    try:
        with quiet():
            set_seed(seed)
            tokenizer = AutoTokenizer.from_pretrained(source.tokenizer, **trust)
            model_config = _config_of(source, trust)
            its_labels, own_head = labels_of(model_config), False
            if config.dropout is not None:
                _set_dropout(model_config, config.dropout)
            if config.pretrained:
                model = _load_model(source, model_config, config, tokenizer)
                own_head = adapt_head(model, its_labels, labels)
            else:
                set_labels(model_config, labels)
                model = AutoModelForSequenceClassification.from_config(
                    model_config, trust_remote_code=config.trust_remote_code
                )
                logger.info("checkpoint.pretrained=false: every weight is random")
    except LOADING_FAILS_WITH as error:
        raise UserError(ExitCode.CHECKPOINT, _loading_message(config, error)) from error
    set_labels(model.config, labels)
    remember_problem(problem, model.config)
    join_tokenizer(tokenizer, model, config.name, may_grow=True)
    if config.layers is not None:
        _use_layers(model, config)
    structure = find_structure(model)
    return Pretrained(
        model.float(), tokenizer, structure, longest_input(model, tokenizer), own_head
    )


def refuse_absent_checkpoint(config: CheckpointConfig) -> None:
    """Stop before anything is written where the checkpoint is not there.

    Raises:
        UserError: if its configuration cannot be read.
    """
    source, trust = locate(config.name), _trust(config)
    try:
        with quiet():
            AutoConfig.from_pretrained(source.weights, **trust)
            folder = Path(source.tokenizer)
            if folder.is_dir() and not has_tokenizer(folder):
                refuse_empty_tokenizer(AutoTokenizer.from_pretrained(folder, **trust), config.name)
    except LOADING_FAILS_WITH as error:
        raise UserError(ExitCode.CHECKPOINT, _loading_message(config, error)) from error


def load_whole(kind: Any, config: CheckpointConfig) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The checkpoint as a model of another kind than a classifier, and what it lacks.

    Args:
        kind: one of the library's `AutoModelFor…`.

    Raises:
        one of LOADING_FAILS_WITH: it is no checkpoint of that kind.
    """
    model, report = kind.from_pretrained(
        locate(config.name).weights,
        dtype=torch.float32,
        use_safetensors=None if config.allow_pickle else True,
        output_loading_info=True,
        **_trust(config),
    )
    return model, report


def load_tokenizer(config: CheckpointConfig) -> tuple[Any, int]:
    """The tokenizer of a checkpoint, and the longest input its model reads; no weights are loaded.

    Raises:
        UserError: the checkpoint is missing, gated, or not a text encoder.
    """
    source, trust = locate(config.name), _trust(config)
    try:
        with quiet(), torch.device("meta"):
            tokenizer = AutoTokenizer.from_pretrained(source.tokenizer, **trust)
            model_config = AutoConfig.from_pretrained(source.weights, **trust)
            model = AutoModelForSequenceClassification.from_config(
                model_config, trust_remote_code=config.trust_remote_code
            )
    except LOADING_FAILS_WITH as error:
        raise UserError(ExitCode.CHECKPOINT, _loading_message(config, error)) from error
    refuse_other_tokenizer(tokenizer, model, config.name, may_grow=True)
    return tokenizer, longest_input(model, tokenizer)


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """No dropout and no gradients; afterwards the mode that the model was in."""
    was_training = model.training
    model.eval()
    try:
        # What is put together in inference mode could not be trained with afterwards.
        without_gradients = torch.no_grad() if is_sharded(model) else torch.inference_mode()
        with without_gradients, fast_linear_maps(model):
            yield
    finally:
        model.train(was_training)


def _trust(config: CheckpointConfig) -> dict[str, Any]:
    """What every part of a checkpoint is loaded with."""
    if config.name != EMBEDDED and not Path(config.name).is_dir():
        use_cache_if_unreachable()
    trust: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    if config.revision is not None and config.name != EMBEDDED:
        trust["revision"] = config.revision
    return trust


def _config_of(source: Source, trust: dict[str, Any]) -> Any:
    model_config = AutoConfig.from_pretrained(source.weights, **trust)
    outputs = None if source.adapter is None else outputs_of(source.adapter)
    if outputs is not None and outputs != model_config.num_labels:
        model_config.num_labels = outputs
    return model_config


def _load_model(
    source: Source, model_config: Any, config: CheckpointConfig, tokenizer: Any
) -> PreTrainedModel:
    model, report = AutoModelForSequenceClassification.from_pretrained(
        source.weights,
        config=model_config,
        dtype=torch.float32,
        use_safetensors=None if config.allow_pickle else True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # of the head; the rest is refused below
        **_trust(config),
    )
    missing = report["missing_keys"]
    structure = find_structure(model)
    for key, conflict in shape_conflicts(report).items():
        if structure.depth(key) <= structure.layers:
            raise UserError(
                ExitCode.CHECKPOINT,
                f"The weights of {config.name} do not have the shapes that its config.json "
                f"describes: {conflict}. The two belong to different models.",
            )
    lacking = [name for name in missing if structure.depth(name) <= structure.layers]
    if lacking:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{config.name} lacks weights of the encoder itself ({', '.join(lacking[:3])} …): "
            "it is not a checkpoint of this architecture.",
        )
    refuse_unfitting_weights(model, report, config.name)
    if source.adapter is not None:
        join_tokenizer(tokenizer, model, config.name, may_grow=True)
        model = merge_adapter(model, source.adapter)
    if missing:
        logger.info("the head is new and starts at random: %s", ", ".join(sorted(missing)))
    return model


def _use_layers(model: PreTrainedModel, config: CheckpointConfig) -> None:
    layers = find_structure(model).layers
    assert config.layers is not None
    if not 0 < config.layers <= layers:
        raise UserError(
            ExitCode.CONFIG,
            f"checkpoint.layers={config.layers} must be from 1 to {layers}, the number of layers "
            f"of {config.name}.",
        )
    if config.layers < layers:
        keep_layers(model, range(config.layers))


def _set_dropout(model_config: Any, dropout: float) -> None:
    # GPT-2 says resid_pdrop.
    names = [n for n in model_config.to_dict() if "dropout" in n or n.endswith("_pdrop")]
    for name in names:
        if not isinstance(getattr(model_config, name), bool | str):
            setattr(model_config, name, dropout)


def _loading_message(config: CheckpointConfig, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    if Path(config.name).exists() and (fault := explain(encoder_folder(Path(config.name)))):
        return f"checkpoint.name={config.name!r} cannot be loaded: {fault}"
    if not Path(config.name).is_dir() and (unreachable := use_cache_if_unreachable()):
        reason = f"the Hub cannot be reached ({unreachable}), and it is not in the cache."
    advice = "Check checkpoint.name (a Hub name or a local folder) and checkpoint.revision."
    if "gated" in reason or "401" in reason or "403" in reason:
        advice = "Ask for access on its page of the Hub and log in (hf auth login)."
    elif "safetensors" in reason:
        advice = (
            "It has no safetensors weights; pickled ones can run code when they are read. "
            "If you trust them, add checkpoint.allow_pickle=true."
        )
    elif "trust_remote_code" in reason:
        advice = "If you trust its code, add checkpoint.trust_remote_code=true."
    return f"checkpoint.name={config.name!r} cannot be loaded: {reason[:300]} {advice}"
