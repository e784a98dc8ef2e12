"""Rows of other shapes than a text with one label, and what is typed to train on them."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from conftest import FILLING, NASTY, NICE, QUIETLY, last_of_each
from prepared_runs import Prepared

from nlp_transfer.export.checkpoint import export
from nlp_transfer.export.verification import Claim
from nlp_transfer.tokenization.encoding import input_length, texts_of

FAST = ("strategy=full", "strategy.learning_rate=1e-3", "strategy.min_steps=0")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows of any columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def some_words(generator: random.Random, *more: str) -> str:
    text = [generator.choice(FILLING) for _ in range(generator.randint(2, 8))] + list(more)
    generator.shuffle(text)
    return " ".join(text)


def pairs(rows: int) -> list[dict[str, Any]]:
    """Is the first text the kinder one? The other way round the answer is the other."""
    generator = random.Random(rows)
    made = []
    for i in range(rows):
        texts = [some_words(generator, generator.choice(words)) for words in (NICE, NASTY)]
        first, second = texts if i % 2 else texts[::-1]
        made.append({"text": first, "other": second, "label": "kinder" if i % 2 else "ruder"})
    return made


def shaped(tmp_path: Path, checkpoint: Path, rows: Callable[[int], Any], *more: str) -> list[str]:
    """What a person types to train a tiny checkpoint on rows of some shape."""
    files = [
        f"dataset.{split}={write_rows(tmp_path / f'{split}.csv', rows(size))}"
        for split, size in (("train", 96), ("validation", 32))
    ]
    name = f"checkpoint.name={checkpoint}"
    return last_of_each("+task=classify", name, *QUIETLY, *FAST, *files, *more)


def claim_of(prepared: Prepared, folder: Path) -> Claim:
    """An exported folder, and what validation is answered by the model in memory."""
    pretrained, corpus = prepared.pretrained, prepared.corpus
    length = input_length(pretrained.max_tokens, prepared.config.tokenization)
    export(pretrained.model, pretrained.tokenizer, "tiny", length, folder)
    texts = texts_of(corpus.splits["validation"])
    return Claim(folder, texts, corpus.labels, prepared.logits("validation"), corpus.problem)


def scores(rows: int) -> list[dict[str, Any]]:
    """How kind is the text? From 0.5 (not at all) to 5.5."""
    generator = random.Random(rows)
    made = []
    for i in range(rows):
        kind = i % 6
        words = [generator.choice(NICE) for _ in range(kind)]
        words += [generator.choice(NASTY) for _ in range(5 - kind)]
        made.append({"text": some_words(generator, *words), "label": kind + 0.5})
    return made


def around(mean: float, spread: float) -> Callable[[int], Any]:
    """How kind a text is, in some units: these six scores have mean 3 and deviation 1.708."""

    def rows(count: int) -> Any:
        made = scores(count)
        values = mean + spread * (np.array([row["label"] for row in made]) - 3) / 1.70782513
        return [{**row, "label": v} for row, v in zip(made, values, strict=True)]

    return rows
