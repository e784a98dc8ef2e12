"""Picks the rows on which the exported folder is compared with the model in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from nlp_transfer.data.corpus import Corpus
from nlp_transfer.evaluation.evaluator import SplitEvaluation
from nlp_transfer.export.verification import Claim
from nlp_transfer.tokenization.encoding import select_texts, texts_of


def claim_of(
    corpus: Corpus,
    evaluations: Mapping[str, SplitEvaluation],
    predict: Callable[[str, np.ndarray], np.ndarray],
    count: int,
    folder: Path,
) -> Claim:
    """Texts evenly taken from validation, or from train where there is none; shortest first.

    Args:
        predict: from a split and some of its rows to the model's logits, [rows, labels].
        count: of rows; 0: all of them.
    """
    split = "validation" if "validation" in evaluations else "train"
    texts = texts_of(corpus.splits[split])
    rows = np.unique(np.linspace(0, len(texts) - 1, count or len(texts)).astype(int))
    rows = np.array(sorted(rows, key=lambda row: len(str(texts[row]))))
    logits = evaluations[split].logits[rows] if split in evaluations else predict(split, rows)
    return Claim(folder, select_texts(texts, rows), corpus.labels, logits, corpus.problem, split)
