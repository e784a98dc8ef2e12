"""Lets a recipe learn from its own answers to texts without labels (`strategy.self_training`).

A teacher learns the recipe from the labelled rows. The texts of `dataset.unlabeled` that it is
surest of, as many of each label, become rows, and the recipe is trained once more, from the
pretrained checkpoint, on both (Mukherjee and Awadallah 2020; Chen et al. 2022 on what goes wrong
where labels are not balanced). In a cross-validation each fold has a teacher of its own, which has
not seen the rows that the fold holds out, and `dataset.unlabeled` has no near duplicate of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import softmax

from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.strategies.recipes import Recipe
from nlp_transfer.runs.folder import RunFolder
from nlp_transfer.tokenization.encoded import Encoded, EncodedSplit
from nlp_transfer.tokenization.subsets import append_documents, select_documents
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.loop import train
from nlp_transfer.training.shared_stages import use_shared_stages
from nlp_transfer.utils.distributed import broadcast_from_rank_zero
from nlp_transfer.utils.logging import logger

MOST_EACH = 64  # rows of a label, made of texts
SHARE = 0.25  # of the texts, at most: the others the teacher may be wrong about


def rows_to_learn(
    context: TrainingContext,
    recipe: Recipe,
    encoded: Encoded,
    folder: RunFolder,
    fold: int | None = None,
    parts: int = 2,
) -> EncodedSplit:
    """The rows of train with what the recipe adds: label names, and texts with its own answers.

    Args:
        encoded: the labelled rows as `train`, and validation where there is one.
        folder: of the training that is to come.
        fold: the one that the training leaves out.
        parts: trainings that share what is left of the budget, this one included.
    """
    rows = context.training_rows(recipe, encoded.splits["train"])
    if not recipe.self_training:
        return rows
    teacher_folder = replace(folder, part=f"{folder.part}/teacher".lstrip("/"), keeps_last=True)
    use_shared_stages(context, recipe, teacher_folder)
    config, pretrained, stages = context.start(recipe, fold)
    splits = {**encoded.splits, "train": rows}
    extensions = context.for_fold(parts)
    teacher = train(
        pretrained,
        replace(context.encoded, splits=splits),
        stages,
        context.metrics,
        config,
        teacher_folder,
        extensions,
    ).model
    texts = context.encoded.unlabeled
    assert texts is not None, "refused before"
    collator, tokens = context.encoded.collator, config.evaluation.max_tokens
    logits = predict_logits(teacher, texts.inputs, collator, tokens, folder.process)
    chosen = broadcast_from_rank_zero(lambda: surest_rows(logits), folder.process)
    labels = logits[chosen].argmax(axis=1).astype(rows.labels.dtype)
    answered = replace(select_documents(texts, chosen), labels=labels)
    counts = np.bincount(labels, minlength=logits.shape[1])
    logger.info(
        "self-training: %d of %d texts become rows, %d to %d of each label",
        len(chosen),
        len(logits),
        counts.min(),
        counts.max(),
    )
    return append_documents(rows, answered)


def surest_rows(logits: np.ndarray) -> np.ndarray:
    """The rows with the most probable answers, as many of each label where there are: int [rows].

    Args:
        logits: float [texts, labels].
    """
    texts, labels = logits.shape
    count = max(min(MOST_EACH, int(SHARE * texts / labels)), 1)
    answers, probabilities = logits.argmax(axis=1), softmax(logits, axis=1)
    chosen = []
    for label in range(labels):
        rows = np.flatnonzero(answers == label)
        order = np.argsort(-probabilities[rows, label], kind="stable")
        chosen.append(rows[order[:count]])
    return np.sort(np.concatenate(chosen))
