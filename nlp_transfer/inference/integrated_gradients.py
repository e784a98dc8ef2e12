"""Integrated gradients over the token embeddings, by captum; their completeness is checked.

Sundararajan et al. 2017. The path begins at the same text with every token masked, so the weights
of the words sum to the margin of the text minus that of the masked text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlp_transfer.config.choices import LongText
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.explanation import Question

if TYPE_CHECKING:
    from nlp_transfer.inference.torch_engine import TorchEngine

STEPS = (32, 64, 128, 256, 512)
BOUND = 0.02  # of the difference that the weights must sum to, besides `LEAST`
LEAST = 0.01
SAME = 1e-3  # between logits from embeddings and logits from tokens
TOKENS = 2048  # of one pass
ADVICE = "Use the method occlusion, which needs no gradients."
Margin = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _Tokens:
    """One text as the model reads it."""

    ids: torch.Tensor  # [1, tokens]
    rest: dict[str, torch.Tensor]  # attention mask and token types
    words: list[int | None]  # the word of each token; None: special ones


def gradients(engine: TorchEngine, question: Question) -> tuple[np.ndarray, tuple[float, ...]]:
    """Weights float64 [labels, words], and the completeness error of each label.

    Raises:
        UserError: if captum is missing, or the model cannot be explained by gradients.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as missing:
        raise UserError(
            ExitCode.MACHINE,
            "Gradients are integrated by captum, which is missing. Type pip install "
            "'nlp_transfer[explain]', or use the method occlusion.",
        ) from missing
    tokens = _tokens(engine, question)
    embed = engine.model.get_input_embeddings()
    with torch.no_grad():
        embeddings = embed(tokens.ids)
        baseline = embed(_masked(engine, tokens))
    _refuse_other_answers(engine, tokens, embeddings)
    weights = np.zeros((len(question.labels), len(question.words)))
    errors = []
    for place, label in enumerate(question.labels):
        integrate = IntegratedGradients(_margin(engine, tokens, label))
        by_token, error = _complete(integrate, embeddings, baseline)
        errors.append(error)
        for word, weight in zip(tokens.words, by_token, strict=True):
            if word is not None:
                weights[place, word] += weight
    return weights, tuple(errors)


def _complete(
    integrate: Any, embeddings: torch.Tensor, baseline: torch.Tensor
) -> tuple[np.ndarray, float]:
    """Weights by token [tokens], with as many steps as their sum needs; and its error."""
    at_once = max(TOKENS // embeddings.shape[1], 1)
    by_token, error = np.zeros(embeddings.shape[1]), 0.0
    for steps in STEPS:
        parts, delta = integrate.attribute(
            embeddings,
            baselines=baseline,
            n_steps=steps,
            internal_batch_size=at_once,
            return_convergence_delta=True,
        )
        by_token = parts.sum(dim=-1)[0].detach().double().cpu().numpy()
        error = float(delta)
        difference = by_token.sum() - error
        if abs(error) <= BOUND * abs(difference) + LEAST:
            break
    return by_token, error


def _tokens(engine: TorchEngine, question: Question) -> _Tokens:
    tokenizer = engine.tokenizer
    if not tokenizer.is_fast:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{type(tokenizer).__name__} does not say where its tokens stand in the text. {ADVICE}",
        )
    whole = tokenizer(question.text, question.pair, return_offsets_mapping=True, verbose=False)
    cut = engine.long_text.long_text is not LongText.truncate
    if cut and len(whole["input_ids"]) > engine.max_length:
        raise UserError(
            ExitCode.CONFIG,
            f"This model reads a text of {len(whole['input_ids'])} tokens in parts of "
            f"{engine.max_length}. {ADVICE}",
        )
    encoded = tokenizer(
        question.text,
        question.pair,
        truncation="longest_first",
        max_length=engine.max_length,
        return_offsets_mapping=True,
        verbose=False,
    )
    sequences = encoded.sequence_ids(0)
    words = [
        None if sequence is None else _word(question, sequence == 1, *offsets)
        for sequence, offsets in zip(sequences, encoded["offset_mapping"], strict=True)
    ]
    device = engine.model.device
    tensors = {
        name: torch.tensor([encoded[name]], device=device)
        for name in ("input_ids", "attention_mask", "token_type_ids")
        if name in encoded
    }
    return _Tokens(tensors.pop("input_ids"), tensors, words)


def _word(question: Question, second: bool, start: int, end: int) -> int | None:
    """The word that a token shares most characters with."""
    shared = [
        min(end, word.end) - max(start, word.start) if word.second is second else 0
        for word in question.words
    ]
    best = int(np.argmax(shared)) if shared else 0
    return best if shared and shared[best] > 0 else None


def _masked(engine: TorchEngine, tokens: _Tokens) -> torch.Tensor:
    """The same tokens, those of the text replaced by the mask (or what there is of the kind)."""
    tokenizer = engine.tokenizer
    mask = tokenizer.mask_token_id
    mask = tokenizer.pad_token_id if mask is None else mask
    special = torch.tensor([word is None for word in tokens.words], device=tokens.ids.device)
    return torch.where(special, tokens.ids, torch.full_like(tokens.ids, mask))


def _margin(engine: TorchEngine, tokens: _Tokens, label: int) -> Margin:
    one_label = engine.decoder.problem.one_label

    def margin(embeddings: torch.Tensor) -> torch.Tensor:
        logits = _logits(engine, tokens, embeddings)
        if not one_label or logits.shape[1] == 1:
            return logits[:, label]
        others = [i for i in range(logits.shape[1]) if i != label]
        return logits[:, label] - logits[:, others].logsumexp(dim=1)

    return margin


def _logits(engine: TorchEngine, tokens: _Tokens, embeddings: torch.Tensor) -> torch.Tensor:
    rest = {name: t.expand(len(embeddings), -1) for name, t in tokens.rest.items()}
    logits: torch.Tensor = engine.model(inputs_embeds=embeddings, **rest).logits.float()
    return logits


def _refuse_other_answers(engine: TorchEngine, tokens: _Tokens, embeddings: torch.Tensor) -> None:
    """Some models answer otherwise to embeddings than to tokens, or not at all."""
    try:
        with torch.no_grad():
            gap = (
                _logits(engine, tokens, embeddings) - engine.model(tokens.ids, **tokens.rest).logits
            )
        same = float(gap.abs().max()) < SAME
    except (NotImplementedError, ValueError, TypeError):
        same = False
    if not same:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{type(engine.model).__name__} does not answer from embeddings as from tokens. "
            f"{ADVICE}",
        )
