"""Fits a tokenizer to its model: padding, the token that ends a text, the longest input."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import (
    PreTrainedModel,
)

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.utils.logging import logger

# Tokenizers that know no limit say something like 1e30.
NO_LIMIT = 1_000_000


def add_padding(tokenizer: Any, model: PreTrainedModel, name: str) -> None:
    """Decoders such as GPT-2 come without a padding token: the one that ends a text serves.

    They are padded on the right, where no real token sees it and positions stay what they are.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                ExitCode.CHECKPOINT,
                f"The tokenizer of {name} has no padding token and none that ends a text; expected "
                "a text encoder such as BERT, RoBERTa or DistilBERT.",
            )
        tokenizer.pad_token, tokenizer.padding_side = tokenizer.eos_token, "right"
        logger.info("the tokenizer has no padding token: %s is used", tokenizer.pad_token)
    known = model.config.pad_token_id
    if known is not None and known != tokenizer.pad_token_id:
        logger.info(
            "the tokenizer of %s pads with token %d, and its config.json says %d: is it the "
            "tokenizer of this model?",
            name,
            tokenizer.pad_token_id,
            known,
        )
    # Decoders find the last real token by it.
    model.config.pad_token_id = tokenizer.pad_token_id


def require_end_token(tokenizer: Any, model: PreTrainedModel, name: str) -> None:
    """T5 and its kind answer at the token that ends a text: each has it, and only there."""
    if tokenizer("a")["input_ids"][-1] != model.config.eos_token_id:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{type(model).__name__} answers at the token that ends a text (number "
            f"{model.config.eos_token_id}), which the tokenizer of {name} does not put there.",
        )
    take_literally(tokenizer, model)


def take_literally(tokenizer: Any, model: PreTrainedModel) -> None:
    """Read `</s>` in a text as text; the setting is not stored in a tokenizer's folder."""
    if model.config.is_encoder_decoder:
        tokenizer.split_special_tokens = True


def longest_input(model: PreTrainedModel, tokenizer: Any) -> int:
    """Tokens that a model and its tokenizer can read at once, special tokens included."""
    positions = getattr(model.config, "max_position_embeddings", None) or NO_LIMIT
    # RoBERTa's first position is the one after the padding index.
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    if isinstance(table, nn.Embedding) and table.padding_idx is not None:
        positions = table.num_embeddings - table.padding_idx - 1
    limit = min(positions, tokenizer.model_max_length)
    return limit if limit < NO_LIMIT else 512
