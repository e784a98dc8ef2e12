"""Gives a checkpoint mean pooling as one more layer of its own kind.

The first token of a frozen sentence encoder is a poor summary of its text; the mean of all tokens
is a better one. One more encoder layer can compute it: queries and keys zero (attention is then
uniform over the real tokens), values the identity, the output scaled until the LayerNorm forgets
the residual. What is left is LayerNorm(mean), at every token, so the checkpoint stays a plain one
of its class.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.config.choices import Adapt, Pooling, Solver
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.strategy import StrategyConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.loading import Pretrained, evaluating
from nlp_transfer.models.structure import find_structure
from nlp_transfer.problems.detection import problem_of_config
from nlp_transfer.tokenization.encoded import Collator, Encoded, EncodedSplit
from nlp_transfer.tokenization.model_inputs import plan_inference, tokens_at_once
from nlp_transfer.utils.logging import logger

# Large enough to drown the residual (its share is 1/1024), small enough for fp16.
LOUD = 1024.0
ROWS = 1000  # of train, on which the two ways are compared


@dataclass(frozen=True)
class Parts:
    """The names of a layer's parts."""

    queries_and_keys: tuple[str, str]
    values: str
    attention_output: str
    norms: tuple[str, str]


_BERT = Parts(
    ("attention.self.query", "attention.self.key"),
    "attention.self.value",
    "attention.output.dense",
    ("attention.output.LayerNorm", "output.LayerNorm"),
)
_DISTILBERT = Parts(
    ("attention.q_lin", "attention.k_lin"),
    "attention.v_lin",
    "attention.out_lin",
    ("sa_layer_norm", "output_layer_norm"),
)
# By `model_type`; encoders with relative positions in the attention cannot be made uniform.
PARTS = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "distilbert": _DISTILBERT,
}
# Others whose head reads the first token.
FIRST_TOKEN = ("deberta", "deberta-v2", "modernbert", "mpnet")


def pool(
    pretrained: Pretrained,
    encoded: Encoded,
    config: Config,
    decide: Callable[[str, Callable[[], Any]], Any],
    folds: np.ndarray | None = None,
    fold: int | None = None,
) -> Pretrained:
    """The classifier with the pooling that was asked for, or that `auto` decides for this training.

    Args:
        decide: keeps what was decided by its name, for all trainings of a run.
        folds: of the rows of train, int [rows].
        fold: the one that the training leaves out.
    """
    kind = pretrained.model.config.model_type
    pooling = settled_pooling(config, kind)
    if pooling is Pooling.auto and _solves_head(config.strategy) and kind in PARTS:
        choose = partial(choose_poolings, pretrained, encoded, config.seed, folds)
        choices = choose if folds is None else partial(decide, "poolings", choose)
        pooling = Pooling(
            decide("pooling", lambda: choices()[0]) if fold is None else choices()[fold + 1]
        )
    return with_pooling(pretrained, pooling)


def _solves_head(strategy: StrategyConfig) -> bool:
    stages = strategy.stages.values()
    return strategy.solve_head or any(stage.solver is Solver.exact for stage in stages)


def settled_pooling(config: Config, kind: str) -> Pooling:
    """The pooling that needs no comparison; `auto` where one decides, or the checkpoint does.

    Args:
        kind: the architecture, such as `bert`.
    """
    strategy = config.strategy
    # One stage, shared by the folds.
    adapts = _solves_head(strategy) and strategy.adapt is not Adapt.none
    if config.checkpoint.pooling is not Pooling.auto or kind not in PARTS:
        return config.checkpoint.pooling
    if adapts or not all(stage.head for stage in strategy.stages.values()):
        # Embeddings learn: their mean is what the literature compares, and needs no comparison.
        return Pooling.mean
    return Pooling.auto


def reads_first_token(pretrained: Pretrained) -> bool:
    """Whether the head reads the first token, and that is no average of all."""
    config = pretrained.model.config
    if pretrained.structure.mean_layer or getattr(config, "classifier_pooling", "cls") == "mean":
        return False
    return config.model_type in (*PARTS, *FIRST_TOKEN)


def with_pooling(pretrained: Pretrained, pooling: Pooling) -> Pretrained:
    """The classifier as it is, or for `mean` with one more layer that averages.

    Raises:
        UserError: where `mean` is asked for and this architecture cannot compute it.
    """
    kind = pretrained.model.config.model_type
    if pooling is Pooling.auto:
        return pretrained
    if hasattr(pretrained.model.config, "classifier_pooling"):  # ModernBERT has both
        own = {Pooling.first: "cls", Pooling.mean: "mean"}
        pretrained.model.config.classifier_pooling = own[pooling]
        return pretrained
    if pooling is Pooling.first:
        return pretrained
    if kind not in PARTS:
        raise UserError(
            ExitCode.CONFIG,
            f"checkpoint.pooling=mean is not possible for {kind}; it is for {', '.join(PARTS)}. "
            "Use checkpoint.pooling=auto.",
        )
    _add_mean_layer(pretrained.model, PARTS[kind])
    structure = replace(find_structure(pretrained.model), mean_layer=True)
    logger.info(
        "pooling: the head reads the mean of all tokens; a layer above the %d of the encoder "
        "averages them and counts as layer %d",
        structure.layers - 1,
        structure.layers,
    )
    return replace(pretrained, structure=structure)


def choose_poolings(
    pretrained: Pretrained, encoded: Encoded, seed: int, folds: np.ndarray | None = None
) -> list[str]:
    """`mean` or `first`: whichever a linear model of frozen features does better with.

    By cross-validation on at most `ROWS` rows of train, for all of them, then for those outside of
    each fold.

    Args:
        folds: of the rows of train, int [rows].
    """
    train, collator = encoded.splits["train"], encoded.collator
    rows = np.random.default_rng(seed).permutation(len(train.labels))[:ROWS]
    # Of a document with windows, the first one stands for all.
    windows = np.searchsorted(train.inputs.documents, rows)
    features = dict(
        zip(
            (Pooling.first, Pooling.mean),
            _summaries(pretrained, train, collator, windows),
            strict=True,
        )
    )
    classes = problem_of_config(pretrained.model.config.to_dict()).integer_references
    parts = [np.ones(len(rows), bool)]
    if folds is not None:
        parts += [folds[rows] != fold for fold in range(int(folds.max()) + 1)]
    choices = []
    for part in parts:
        of_part = {pooling: x[part] for pooling, x in features.items()}
        scores = _scores(of_part, train.labels[rows[part]], classes, seed)
        choices.append(max(scores, key=lambda pooling: scores[pooling]))
        if len(choices) == 1 and scores[Pooling.mean] < np.inf:
            logger.info(
                "frozen features of %d rows, cross-validated %s: first token %.3f, mean %.3f",
                len(rows),
                "accuracy" if classes else "R2",
                scores[Pooling.first],
                scores[Pooling.mean],
            )
    return [pooling.value for pooling in choices]


def _scores(
    features: dict[Pooling, np.ndarray], labels: np.ndarray, classes: bool, seed: int
) -> dict[Pooling, float]:
    """The score of each pooling; where the rows are too few to compare, the mean is better."""
    folds = min(5, int(np.bincount(labels)[np.unique(labels)].min()) if classes else len(labels))
    if folds < 2:
        return {Pooling.first: -np.inf, Pooling.mean: np.inf}
    # Scores, and yes or no to each of several labels, are compared by a ridge's R2.
    judge = LogisticRegression(max_iter=1000) if classes else Ridge()
    cut = (StratifiedKFold if classes else KFold)(folds, shuffle=True, random_state=seed)
    return {
        pooling: float(cross_val_score(judge, x, labels, cv=cut).mean())
        for pooling, x in features.items()
    }


def _add_mean_layer(model: PreTrainedModel, parts: Parts) -> None:
    path = find_structure(model).layer_prefixes[-1].rpartition(".")[0]
    layers = model.get_submodule(path)
    assert isinstance(layers, nn.ModuleList)
    layer = copy.deepcopy(layers[-1])
    width = model.config.hidden_size
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.get_submodule(parts.values).weight.copy_(torch.eye(width))
        layer.get_submodule(parts.attention_output).weight.copy_(LOUD * torch.eye(width))
        for norm in parts.norms:
            layer.get_submodule(norm).weight.fill_(1.0)
    layers.append(layer)
    model.config.num_hidden_layers = len(layers)
    for config_holder in model.modules():
        if hasattr(config_holder, "n_layers"):
            config_holder.n_layers = len(layers)


def _summaries(
    pretrained: Pretrained, train: EncodedSplit, collator: Collator, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First token and mean of the last hidden states, float32 [rows, width] each."""
    encoder = pretrained.model.base_model
    width = pretrained.model.config.hidden_size
    first, mean = np.empty((len(rows), width), np.float32), np.empty((len(rows), width), np.float32)
    with evaluating(pretrained.model):
        for at in plan_inference(train.inputs.lengths[rows], tokens_at_once(encoder.device)):
            batch = collator.pad(train.inputs, rows[at])
            batch = {name: tensor.to(encoder.device) for name, tensor in batch.items()}
            states = encoder(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            first[at] = states[:, 0].cpu().numpy()
            mean[at] = ((states * mask).sum(1) / mask.sum(1)).cpu().numpy()
    return first, _normalised(mean)


def _normalised(x: np.ndarray) -> np.ndarray:
    """As the added layer's LayerNorm leaves it."""
    return (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
