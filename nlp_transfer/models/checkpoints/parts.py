"""Checks that the parts of a checkpoint belong together: tokenizer, embeddings, layers, head."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.checkpoints.folder import no_tokenizer
from nlp_transfer.models.tokenizers import add_padding, require_end_token
from nlp_transfer.utils.logging import logger, quiet

FEWEST = 0.5  # of the rows of the embeddings that the tokenizer of the same model uses, at least
SHOWN = 3  # names in a message
LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h|block)\.(\d+)\.")


def refuse(message: str) -> UserError:
    """An error about a checkpoint."""
    return UserError(ExitCode.CHECKPOINT, message)


def join_tokenizer(tokenizer: Any, model: PreTrainedModel, name: str, may_grow: bool) -> None:
    """Make sure that the model has an embedding for every token.

    Args:
        may_grow: whether added tokens get new embeddings, which training has to follow.

    Raises:
        UserError: if the tokenizer is missing or that of another model.
    """
    add_padding(tokenizer, model, name)
    added = refuse_other_tokenizer(tokenizer, model, name, may_grow)
    if added:
        with quiet():
            model.resize_token_embeddings(max(added.values()) + 1)
        shown = ", ".join(sorted(added)[:SHOWN]) + (" …" if len(added) > SHOWN else "")
        logger.info("%d tokens of the tokenizer get new embeddings: %s", len(added), shown)
    if model.config.is_encoder_decoder:
        require_end_token(tokenizer, model, name)


def refuse_empty_tokenizer(tokenizer: Any, name: str) -> None:
    """Stop where there were no files of a tokenizer: transformers makes one of special tokens.

    Raises:
        UserError: with what to do.
    """
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        raise refuse(no_tokenizer(name))


def _embedding_rows(model: PreTrainedModel) -> int | None:
    try:
        embeddings = model.get_input_embeddings()
    except NotImplementedError:
        return None
    return embeddings.num_embeddings if isinstance(embeddings, nn.Embedding) else None


def refuse_other_tokenizer(
    tokenizer: Any, model: PreTrainedModel, name: str, may_grow: bool
) -> dict[str, int]:
    """Stop where the tokenizer is missing, or that of another model.

    Returns:
        The added tokens that have no embeddings yet, with their numbers.

    Raises:
        UserError: with both sizes.
    """
    refuse_empty_tokenizer(tokenizer, name)
    _refuse_other_ids(tokenizer, model, name)
    rows, vocabulary = _embedding_rows(model), tokenizer.get_vocab()
    if rows is None:
        return {}
    beyond = {token: number for token, number in vocabulary.items() if number >= rows}
    only_added = set(beyond) <= set(tokenizer.get_added_vocab())
    if (beyond and not (only_added and may_grow)) or len(vocabulary) < FEWEST * rows:
        raise refuse(
            f"The tokenizer of {name} has {len(vocabulary):,} tokens, the embeddings of the model "
            f"{rows:,} rows: they belong to different models. Save the tokenizer that the model "
            "was trained with into the folder."
        )
    return beyond


def _refuse_other_ids(tokenizer: Any, model: PreTrainedModel, name: str) -> None:
    """Stop where the tokenizer numbers padding or segments as another architecture does."""
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)  # RoBERTa's first position is the one after it
    if padding is not None and tokenizer.pad_token_id != padding:
        raise refuse(
            f"The tokenizer of {name} pads with token {tokenizer.pad_token_id}, the model with "
            f"token {padding}: they belong to different models."
        )
    segments = getattr(model.config, "type_vocab_size", None)
    if "token_type_ids" in tokenizer.model_input_names and segments:
        segment = max(tokenizer("a", "a").get("token_type_ids") or [0])
        if segment >= segments:
            raise refuse(
                f"The tokenizer of {name} marks the second text of a pair with segment {segment}, "
                f"and the model has {segments}: they belong to different models."
            )


def refuse_unfitting_weights(model: PreTrainedModel, report: Mapping[str, Any], name: str) -> None:
    """Stop where weights are not those of the architecture that config.json describes.

    Args:
        report: of `from_pretrained`: keys that are missing, unexpected or of another shape.

    Raises:
        UserError: with the first of them.
    """
    there, described = _layers(report["unexpected_keys"]), _layers(model.state_dict())
    if there > described > 0:
        raise refuse(
            f"{name} has weights of {there} layers, and its config.json describes {described}: "
            "the two belong to different models."
        )
    for key, parameter in model.named_parameters():
        if not torch.isfinite(parameter.detach().sum()):
            raise refuse(
                f"{name} has weights that are no numbers ({key}): its training has diverged, or "
                "the file is damaged."
            )
    embeddings = model.get_input_embeddings() if _embedding_rows(model) else None
    if embeddings is not None and not embeddings.weight.detach().any():
        raise refuse(f"{name} has embeddings of zeros: the file is damaged. Copy it again.")


def _layers(keys: Iterable[str]) -> int:
    """How many layers the names of weights are of."""
    numbers = (match for key in keys for match in LAYER.findall(key))
    return max(map(int, numbers), default=-1) + 1


def shape_conflicts(report: Mapping[str, Any]) -> dict[str, str]:
    """Weights of another shape than config.json says: `name has [2, 3], expected [4, 3]`."""
    return {
        key: f"{key} has {list(shape)}, expected {list(expected)}"
        for key, shape, expected in sorted(report.get("mismatched_keys", ()))
    }


def refuse_untrained(model: PreTrainedModel, report: Mapping[str, Any], name: str) -> None:
    """Stop where a folder is to answer and is no classifier, or not a whole one.

    Raises:
        UserError: with what is missing.
    """
    kinds = model.config.architectures or []
    advice = (
        f"Train it first: nlp-transfer train +task=classify checkpoint.name={name} dataset.train=…"
    )
    conflicts, missing = shape_conflicts(report), sorted(report["missing_keys"])
    if kinds and not any("ForSequenceClassification" in kind for kind in kinds):
        reason = f"it holds {kinds[0]}, not a classifier of texts. {advice}"
    elif conflicts:
        reason = (
            f"config.json and the weights do not fit together: {next(iter(conflicts.values()))}"
        )
    elif missing:
        listed = ", ".join(missing[:SHOWN]) + (" …" if len(missing) > SHOWN else "")
        reason = f"weights are missing ({listed}). {advice}"
    else:
        labels = list(model.config.id2label.values())
        if len(set(labels)) == len(labels):
            return
        twice = next(label for label in labels if labels.count(label) > 1)
        reason = f"two of its labels have the name {twice!r} (id2label in config.json)"
    raise refuse(f"{name} cannot be opened as a classifier: {reason}")
