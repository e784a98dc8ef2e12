"""A stage without labels that teaches the joint encoder of a sentence pair what two encoders know.

A pretrained encoder knows how alike two texts are when it reads them one by one; fed both at once,
as a cross-encoder, it does not, and a few labels cannot teach it. So the pair is first read in the
way that works: `u` and `v`, the mean-pooled embeddings of the two texts by themselves, give a
description of the pair (`u * v` and `|u - v|`, the features of InferSent, Conneau et al. 2017). The
joint encoder then learns to predict it by a linear regression, whose weights are thrown away. A
head that is solved afterwards finds in the joint embedding what a bi-encoder with a logistic
regression would have used, and the checkpoint stays a plain one.

The pairs are made of the training texts: a text and an edited copy of it, a text and one of its
nearest neighbours, two random texts. (Augmented SBERT, Thakur et al. 2021, distils in the other
direction, from the joint encoder into the separate one, and needs labels.)

Limits: the result is about as good as a bi-encoder, not better: it helps where similarity matters
(paraphrase, similarity scores, entailment of near copies) and not where reading both texts together
is needed (RTE). With thousands of labelled pairs, fine-tuning alone learns more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.loading import Pretrained, evaluating
from nlp_transfer.models.mean_pooling import PARTS
from nlp_transfer.models.shortcuts.last_layer import shortened
from nlp_transfer.tokenization.batches import encode_texts
from nlp_transfer.tokenization.encoded import Collator, EncodedSplit
from nlp_transfer.tokenization.model_inputs import (
    PAIRS,
    Inputs,
    Pairs,
    plan_inference,
    tokens_at_once,
)
from nlp_transfer.training.losses import LossOptions, register_loss, squared_error

PAIR_DISTILLATION = "pair_distillation"
MOST_TEXTS = 2000  # that pairs are made of; neighbours are searched among all of them
NEIGHBOURS = 10
EDITS = 3  # of a copy, at most
SHORTEST = 3  # words of a text from which none is deleted any more
COMPONENTS = 48  # principal components of a pair's description that are learned
COMPONENT_ROWS = 1500  # that these are computed from
COSINE_WEIGHT = 3.0  # spread of the cosine beside that of the first component, which is 1
REGRESSOR = "pair_regressor"  # the name of the regression in the model while the stage runs
REGRESSOR_RATE = 2e-3
EMBEDDING_NORM = 5.0  # of what the regression reads


@register_loss(PAIR_DISTILLATION, reads="pairs")
def pair_distillation(
    outputs: torch.Tensor, answers: torch.Tensor, options: LossOptions
) -> torch.Tensor:
    """Squared error to the similarity of the two texts' own embeddings; it needs no labels."""
    return squared_error(outputs, answers, options)


@dataclass(frozen=True)
class PairTexts:
    """Distinct texts, and the nearest neighbours of each: int [texts, neighbours]."""

    texts: list[str]
    neighbours: np.ndarray


def distillation_split(
    pretrained: Pretrained,
    train: EncodedSplit,
    collator: Collator,
    *,
    pairs: int,
    max_length: int,
    seed: int,
    bf16: bool = False,
) -> EncodedSplit:
    """Invented pairs, and as their labels what the joint encoder is to learn of each.

    A pure function of train's texts, the seed, the number of pairs and the weights as they are now.

    Args:
        max_length: tokens of the longest input.
        bf16: the arithmetic of the embeddings.

    Returns:
        Labels are float32 [pairs, 1 + components]: the cosine, and the principal components.
    """
    generator = np.random.default_rng([seed, pairs])
    texts = distinct_texts(train.inputs, pretrained.tokenizer)
    if len(texts) > MOST_TEXTS:
        texts = [texts[i] for i in generator.permutation(len(texts))[:MOST_TEXTS]]

    def embed(some: Sequence[str]) -> np.ndarray:
        inputs = encode_texts(list(some), pretrained.tokenizer, max_length)
        return _embed(pretrained.model, inputs, collator, bf16)

    text_embeddings = embed(texts)
    generated = generate_pairs(PairTexts(texts, _nearest(text_embeddings)), pairs, generator)
    row_of = {
        text: row
        for row, text in enumerate(dict.fromkeys([*texts, *generated.first, *generated.second]))
    }
    new = list(row_of)[len(texts) :]
    embeddings = np.concatenate([text_embeddings, embed(new)]) if new else text_embeddings
    u, v = (
        embeddings[[row_of[text] for text in side]] for side in (generated.first, generated.second)
    )
    inputs = encode_texts(generated, pretrained.tokenizer, max_length)
    return EncodedSplit(inputs, _targets(u, v, generator), 0)


def refuse_unfitting_model(pretrained: Pretrained) -> None:
    """Stop where the two texts of a pair have no embeddings to distil.

    Raises:
        UserError: the model reads single texts, or has no mean pooling.
    """
    if not getattr(pretrained.model.config, PAIRS, False):
        raise UserError(
            ExitCode.CONFIG,
            f"The loss {PAIR_DISTILLATION} is for sentence pairs, and each row is a single text. "
            "Name the column of the second text (dataset.text_pair), or choose another strategy.",
        )
    if not pretrained.structure.mean_layer:
        raise UserError(
            ExitCode.CONFIG,
            f"The loss {PAIR_DISTILLATION} needs mean pooling: checkpoint.pooling=auto or mean, "
            f"and a checkpoint of type {', '.join(PARTS)}. This one is of type "
            f"{pretrained.model.config.model_type}; choose another strategy (strategy=full).",
        )


def distinct_texts(pairs: Inputs, tokenizer: Any) -> list[str]:
    """The texts of encoded pairs, each once, as the tokenizer decodes them."""
    names = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id")
    around = [i for i in (getattr(tokenizer, name) for name in names) if i is not None]
    sides = []
    for row in range(len(pairs)):
        ids = pairs[row]["input_ids"]
        inside = np.flatnonzero(~np.isin(ids, around))
        gaps = np.flatnonzero(np.diff(inside) > 1)  # the first one is between the two texts
        if len(gaps):
            sides += [ids[inside[: gaps[0] + 1]], ids[inside[gaps[0] + 1 :]]]
    decoded = (tokenizer.decode(ids, skip_special_tokens=False).strip() for ids in sides)
    return list(dict.fromkeys(text for text in decoded if text))


def generate_pairs(pair_texts: PairTexts, count: int, generator: np.random.Generator) -> Pairs:
    """Pairs of texts: 40% of a text and an edited copy, 35% of neighbours, 25% random ones.

    Half of the neighbours are edited, too. The order within a pair is random.
    """
    words = [word for text in pair_texts.texts for word in text.split()]
    first, second = [], []
    for _ in range(count):
        row, kind = int(generator.integers(len(pair_texts.texts))), generator.random()
        one = pair_texts.texts[row]
        if kind < 0.4:
            two = edit(one, words, generator)
        elif kind < 0.75:
            two = pair_texts.texts[generator.choice(pair_texts.neighbours[row])]
            two = edit(two, words, generator) if generator.random() < 0.5 else two
        else:
            two = pair_texts.texts[generator.integers(len(pair_texts.texts))]
        if generator.random() < 0.5:
            one, two = two, one
        first.append(one)
        second.append(two)
    return Pairs(first, second)


def edit(text: str, vocabulary: Sequence[str], generator: np.random.Generator) -> str:
    """A copy with one to three edits: a word deleted, replaced, inserted, or two exchanged."""
    words = text.split()
    for _ in range(generator.integers(1, EDITS + 1)):
        place, kind = generator.integers(len(words)), generator.random()
        another = vocabulary[int(generator.integers(len(vocabulary)))]
        if kind < 0.35 and len(words) > SHORTEST:
            del words[place]
        elif kind < 0.75:
            words[place] = another
        elif kind < 0.85:
            words.insert(place, another)
        else:
            other = generator.integers(len(words))
            words[place], words[other] = words[other], words[place]
    return " ".join(words)


@contextmanager
def regressing(model: PreTrainedModel, outputs: int) -> Iterator[nn.Linear]:
    """Inside, the model's logits are a new linear regression on its embeddings.

    The regression is part of the model, so checkpoints hold it and processes share its gradients;
    it begins with what torch's generator draws.
    """
    regressor = nn.Linear(model.config.hidden_size, outputs).to(model.device)
    states: list[torch.Tensor] = []

    def remember(_: Any, __: Any, output: Any) -> None:
        states[:] = [output[0][:, 0]]

    def regress(_: Any, __: Any, output: Any) -> Any:
        embeddings = nn.functional.layer_norm(states.pop().float(), regressor.weight.shape[1:])
        output.logits = regressor(embeddings * (EMBEDDING_NORM / regressor.in_features**0.5))
        return output

    model.add_module(REGRESSOR, regressor)
    hooks = (
        model.base_model.register_forward_hook(remember),
        model.register_forward_hook(regress),
    )
    try:
        yield regressor
    finally:
        for hook in hooks:
            hook.remove()
        delattr(model, REGRESSOR)


def _embed(model: PreTrainedModel, inputs: Inputs, collator: Collator, bf16: bool) -> np.ndarray:
    """What the head reads, mean pooling included, centred and of norm 1: float32 [rows, width]."""
    vectors = np.empty((len(inputs), model.config.hidden_size), np.float32)
    device = model.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
    with evaluating(model), shortened(model), autocast:
        for rows in plan_inference(inputs.lengths, tokens_at_once(device)):
            batch = collator.pad(inputs, rows)
            states = model.base_model(**{name: t.to(device) for name, t in batch.items()})[0]
            vectors[rows] = states[:, 0].float().cpu().numpy()
    vectors -= vectors.mean(axis=1, keepdims=True)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _nearest(embeddings: np.ndarray) -> np.ndarray:
    """The rows of the nearest other embeddings, int [rows, neighbours]; a lone row's is itself."""
    similarities = embeddings @ embeddings.T
    if len(embeddings) > 1:
        np.fill_diagonal(similarities, -np.inf)
    nearest = np.argsort(-similarities, axis=1, kind="stable")
    return nearest[:, : max(min(NEIGHBOURS, len(embeddings) - 1), 1)]


def _targets(u: np.ndarray, v: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The standardised cosine, and the first principal components: float32 [pairs, targets].

    The first component has spread 1, the others as much less as their singular values say.
    """
    described = np.hstack([u * v * u.shape[1] ** 0.5, np.abs(u - v)])
    described -= described.mean(axis=0)
    some = generator.permutation(len(described))[:COMPONENT_ROWS]
    _, sizes, directions = np.linalg.svd(described[some], full_matrices=False)
    count = min(COMPONENTS, int((sizes > 1e-4 * sizes[0]).sum()))
    components = described @ directions[:count].T
    components /= components.std(axis=0)
    components *= np.sqrt(sizes[:count] / sizes[0])
    cosine = (u * v).sum(axis=1, keepdims=True)
    cosine = COSINE_WEIGHT * (cosine - cosine.mean()) / max(cosine.std(), 1e-6)
    return np.hstack([cosine, components]).astype(np.float32)
