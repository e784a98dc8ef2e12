"""What a check finds: a sentence, the places of the rows, and some of their texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from nlp_transfer.data.corpus import Corpus
from nlp_transfer.tokenization.encoding import texts_of
from nlp_transfer.tokenization.model_inputs import Pairs

MOST_ROWS = 1000  # of one finding, by their place
EXAMPLES, EXAMPLE_LENGTH = 5, 200  # of one finding, characters of each


class Level(Enum):
    """How much a finding matters."""

    good = "good"
    warning = "warning"
    problem = "problem"


@dataclass(frozen=True)
class Finding:
    """One sentence about the data, with the rows that it is about."""

    level: Level
    check: str
    sentence: str
    rows: list[str] = field(default_factory=list)  # places, in words
    examples: list[str] = field(default_factory=list)  # texts of the first rows, one for each
    cautions: dict[str, str] = field(default_factory=dict)  # by split, beside its figures

    def as_dict(self) -> dict[str, Any]:
        """As `data_report.json` has it."""
        entries = {**vars(self), "level": self.level.value}
        if not self.cautions:
            del entries["cautions"]
        return entries


def cautions(findings: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """By split what stands beside its figures, from the findings of `data_report.json`."""
    of_split: dict[str, list[str]] = {}
    for finding in findings:
        for split, sentence in finding.get("cautions", {}).items():
            of_split.setdefault(split, []).append(sentence)
    return of_split


def places_and_texts(corpus: Corpus, rows: dict[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """Places and examples of rows in several splits."""
    places: list[str] = []
    examples: list[str] = []
    for split, some in rows.items():
        places += corpus.places(split, some[:MOST_ROWS])
        examples += map(shortened_text, texts_at(corpus, split, some[:EXAMPLES]))
    return places[:MOST_ROWS], examples[:EXAMPLES]


def texts_at(corpus: Corpus, split: str, rows: np.ndarray) -> list[str]:
    """Texts, or pairs, of some rows."""
    texts = texts_of(corpus.splits[split].select(rows))
    if isinstance(texts, Pairs):
        return [f"{a} | {b}" for a, b in zip(texts.first, texts.second, strict=True)]
    return list(texts)


def count_of_texts(count: int) -> str:
    """In words."""
    return "one text" if count == 1 else f"{count:,} texts"


def shortened_text(text: str, length: int = EXAMPLE_LENGTH) -> str:
    """On one line, cut to a length."""
    line = " ".join(text[: 2 * length].split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
