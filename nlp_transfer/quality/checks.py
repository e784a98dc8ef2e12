"""Looks for what is wrong with the data: leaks, duplicates, contradictions, cut texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from os.path import commonprefix
from typing import Any

import numpy as np

from nlp_transfer.config.schema import LongText, TokenizationConfig
from nlp_transfer.data.corpus import Corpus, answers_of
from nlp_transfer.data.near_duplicates import keys_of, near_pairs, near_partners
from nlp_transfer.data.sources import SPLITS
from nlp_transfer.problems.base import integer
from nlp_transfer.tokenization.encoding import BATCH, input_length, texts_of
from nlp_transfer.tokenization.model_inputs import Pairs, Texts

FEW_ROWS = 10  # of a label
MOST_UNKNOWN = 0.5  # the share of unknown tokens that makes a text unreadable
LITTLE = 0.01  # the share of all tokens that may be lost without a warning
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
    examples: list[str] = field(default_factory=list)  # texts of the first rows

    def as_dict(self) -> dict[str, Any]:
        """As `data_report.json` has it."""
        return {**vars(self), "level": self.level.value}


@dataclass(frozen=True)
class Tokens:
    """How the tokenizer reads the texts of a split when nothing is cut."""

    lengths: np.ndarray  # int64 [rows], special tokens included
    unknown: np.ndarray  # float64 [rows]: the share of tokens that stand for anything unknown


@dataclass(frozen=True)
class Keys:
    """Which texts are the same: one number for each, in every split."""

    of: dict[str, np.ndarray]  # by split: int64 [rows], indices into `texts`
    texts: list[str]  # what is left of each text without case and punctuation

    def has(self, split: str) -> np.ndarray:
        """Whether a split has each of the texts."""
        present = np.zeros(len(self.texts), dtype=bool)
        present[self.of[split]] = True
        return present


def count_tokens(texts: Texts, tokenizer: Any) -> Tokens:
    """Tokenize everything, whole, and keep only the counts."""
    firsts, seconds = (texts.first, texts.second) if isinstance(texts, Pairs) else (texts, None)
    nothing = tokenizer.unk_token_id
    if nothing in (tokenizer.eos_token_id, tokenizer.cls_token_id):
        nothing = None  # byte-level tokenizers know everything, and have only the name of such one
    around = tokenizer.num_special_tokens_to_add(pair=seconds is not None)
    lengths: list[int] = []
    unknown: list[int] = []
    for start in range(0, len(firsts), BATCH):
        part = slice(start, start + BATCH)
        pairs = None if seconds is None else seconds[part]
        options = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        ids = tokenizer(firsts[part], pairs, truncation=False, padding=False, **options)[
            "input_ids"
        ]
        lengths += map(len, ids)
        unknown += [row.count(nothing) if nothing is not None else 0 for row in ids]
    counts = np.array(lengths, dtype=np.int64)
    return Tokens(counts, np.array(unknown) / np.maximum(counts - around, 1))


def find_keys(corpus: Corpus) -> Keys:
    """Give every text its number; those of train come first."""
    numbers: dict[str, int] = {}
    of_split = {
        split: np.array([numbers.setdefault(key, len(numbers)) for key in keys_of(rows)])
        for split in SPLITS
        if (rows := corpus.splits.get(split)) is not None
    }
    return Keys(of_split, list(numbers))


def find_all(
    corpus: Corpus, tokens: dict[str, Tokens], max_tokens: int, config: TokenizationConfig
) -> list[Finding]:
    """Every check, the worst first."""
    keys = find_keys(corpus)
    pairs = near_pairs(keys.texts)
    findings = [
        Finding(Level.good, "empty", "No text and no label is empty."),
        *_leaks(corpus, keys, pairs),
        *_contradictions(corpus, keys),
        *_duplicates(corpus, keys, pairs),
        *_labels(corpus),
        *_cut(corpus, tokens, max_tokens, config),
        *_unknown(corpus, tokens),
    ]
    order = list(Level)
    return sorted(findings, key=lambda finding: -order.index(finding.level))


def _leaks(corpus: Corpus, keys: Keys, pairs: np.ndarray) -> Iterator[Finding]:
    """Rows of validation and test that train has, too."""
    train, clean = keys.has("train"), True
    for split in keys.of:
        if split == "train":
            continue
        mine, here = keys.of[split], keys.has(split)
        leaked = train[mine]
        rows = f"of the {len(mine):,} rows of {split}"
        if leaked.any():
            clean = False
            yield _repeats(
                corpus,
                (split, np.flatnonzero(leaked)),
                ("train", _first_rows(keys, "train")[mine[leaked]]),
                Finding(
                    Level.problem,
                    "leak",
                    f"{leaked.sum():,} {rows} ({_percent(leaked.mean())}) are in train, too: what "
                    "is measured there is memory. dataset.on_leak=drop leaves them out of train.",
                ),
            )
        across = (train[pairs] & here[pairs][:, ::-1]).any(axis=1)
        partners = near_partners(keys.texts, pairs[across])
        nearly = np.array([i for i, k in enumerate(mine) if k in partners and not train[k]], int)
        if len(nearly):
            clean = False
            others = _first_rows(keys, "train")[[partners[k] for k in mine[nearly]]]
            sentence = f"{len(nearly):,} {rows} are nearly the same as a row of train."
            finding = Finding(Level.warning, "near leak", sentence)
            yield _repeats(corpus, (split, nearly), ("train", others), finding)
    names = " or ".join(split for split in keys.of if split != "train")
    if clean and names:
        yield Finding(Level.good, "leak", f"No text of {names} is in train, too, or nearly so.")


def _duplicates(corpus: Corpus, keys: Keys, pairs: np.ndarray) -> Iterator[Finding]:
    """Rows that repeat another of their own split."""
    clean = True
    for split, mine in keys.of.items():
        first = _first_rows(keys, split)[mine]
        again = np.flatnonzero(first != np.arange(len(mine)))
        rows = f"of the {len(mine):,} rows of {split}"
        if len(again):
            clean = False
            share = _percent(len(again) / len(mine))
            sentence = f"{len(again):,} {rows} ({share}) repeat an earlier one."
            finding = Finding(Level.warning, "duplicates", sentence)
            yield _repeats(corpus, (split, again), (split, first[again]), finding)
        partners = near_partners(keys.texts, pairs[keys.has(split)[pairs].all(axis=1)])
        nearly = np.array([i for i, k in enumerate(mine) if k in partners], dtype=int)
        if len(nearly):
            clean = False
            others = _first_rows(keys, split)[[partners[k] for k in mine[nearly]]]
            share = _percent(len(nearly) / len(mine))
            sentence = f"{len(nearly):,} {rows} ({share}) are nearly the same as another."
            finding = Finding(Level.warning, "near duplicates", sentence)
            yield _repeats(corpus, (split, nearly), (split, others), finding)
    if clean:
        yield Finding(Level.good, "duplicates", "No row repeats another of its split.")


def _contradictions(corpus: Corpus, keys: Keys) -> Iterator[Finding]:
    """The same text with different answers, in any splits."""
    ids = np.concatenate(list(keys.of.values()))
    answers = [answer for split in keys.of for answer in answers_of(corpus, split)]
    references = np.concatenate([corpus.references(split) for split in keys.of])
    wrong, what = corpus.problem.contradictory(references, ids, len(keys.texts))
    rows = np.flatnonzero(wrong[ids])
    if not len(rows):
        yield Finding(Level.good, "contradictions", f"No text occurs with different {what}.")
        return
    sentence = (
        f"In {len(rows):,} rows the same text has different {what} ({_texts(wrong.sum())}): one of "
        "each must be wrong, or the text does not decide."
    )
    rows = rows[np.argsort(ids[rows], kind="stable")][:MOST_ROWS]
    places, texts = [""] * len(rows), [""] * len(rows)
    start = 0
    for split, mine in keys.of.items():
        here = np.flatnonzero((rows >= start) & (rows < start + len(mine)))
        split_rows = rows[here] - start
        described = zip(
            here, corpus.places(split, split_rows), _shown(corpus, split, split_rows), strict=True
        )
        for i, place, text in described:
            places[i], texts[i] = f"{place}: {answers[rows[i]]}", text
        start += len(mine)
    examples = [_short(text) for text in texts[:EXAMPLES]]
    yield Finding(Level.problem, "contradictions", sentence, places, examples)


def _labels(corpus: Corpus) -> Iterator[Finding]:
    """Labels that can hardly be learned, and labels that look misspelt."""
    if not corpus.problem.has_labels:
        return
    counts = label_rows(corpus, "train")
    none = [label for label, rows in counts.items() if not rows]
    rare = [f"{label} ({rows})" for label, rows in counts.items() if 0 < rows < FEW_ROWS]
    if none:
        sentence = f"Train has no row of {', '.join(none)}: it cannot be learned."
        yield Finding(Level.problem, "labels", sentence)
    if rare:
        sentence = f"Fewer than {FEW_ROWS} rows of train have the label {', '.join(rare)}."
        yield Finding(Level.warning, "labels", sentence)
    numbers = [label for label in counts if integer(label) is not None]
    if 0 < len(numbers) < len(counts):
        sentence = f"Some labels are numbers ({', '.join(numbers[:EXAMPLES])}), others are names."
        yield Finding(Level.warning, "labels", sentence)
    if not (none or rare):
        sentence = f"Every label has at least {FEW_ROWS} rows of train."
        yield Finding(Level.good, "labels", sentence)


def _cut(
    corpus: Corpus, tokens: dict[str, Tokens], max_tokens: int, config: TokenizationConfig
) -> Iterator[Finding]:
    """What does not fit into an input, and what to do."""
    length = input_length(max_tokens, config)
    long = {split: np.flatnonzero(counted.lengths > length) for split, counted in tokens.items()}
    count = sum(map(len, long.values()))
    if not count:
        yield Finding(Level.good, "cut", f"Every text fits into {length:,} tokens.")
        return
    if config.long_text is LongText.windows:
        sentence = f"{_texts(count)} longer than {length:,} tokens: read in windows."
        yield Finding(Level.good, "cut", sentence)
        return
    total = sum(int(counted.lengths.sum()) for counted in tokens.values())
    lost = sum(int(np.maximum(counted.lengths - length, 0).sum()) for counted in tokens.values())
    level = Level.warning if lost > LITTLE * total else Level.good
    rows = sum(len(counted.lengths) for counted in tokens.values())
    what = "middle" if config.long_text is LongText.head_tail else "end"
    sentence = (
        f"{count:,} of {rows:,} texts ({_percent(count / rows)}) are longer than {length:,} tokens "
        f"and lose their {what}, together {_percent(lost / total)} of all tokens."
    )
    if level is Level.warning:
        longest = max(int(counted.lengths.max()) for counted in tokens.values())
        sentence += f" {_advice(corpus, length, max_tokens, longest)}"
    yield Finding(level, "cut", sentence, *_rows_of(corpus, long))


def _advice(corpus: Corpus, length: int, max_tokens: int, longest: int) -> str:
    ways = []
    if length < max_tokens:
        ways.append(f"tokenization.max_length={min(longest, max_tokens)}")
    if longest > max_tokens:
        if "text_pair" not in corpus.splits["train"].column_names:
            ways.append("tokenization.long_text=windows")
        ways.append(
            f"a checkpoint that reads more than {max_tokens:,} tokens (checkpoint=modernbert)"
        )
    return f"To keep more: {', or '.join(ways)}."


def _unknown(corpus: Corpus, tokens: dict[str, Tokens]) -> Iterator[Finding]:
    """Texts in a script that the tokenizer does not read."""
    rows = {split: np.flatnonzero(t.unknown >= MOST_UNKNOWN) for split, t in tokens.items()}
    count = sum(map(len, rows.values()))
    if not count:
        yield Finding(Level.good, "unknown", "The tokenizer can read every text.")
        return
    yield Finding(
        Level.warning,
        "unknown",
        f"Of {_texts(count)} at least half of the tokens are unknown to the tokenizer: the model "
        "sees nothing there. One of many languages would see more (checkpoint=xlm_roberta).",
        *_rows_of(corpus, rows),
    )


def label_rows(corpus: Corpus, split: str) -> dict[str, int]:
    """How many rows have each label."""
    counts = corpus.problem.count(corpus.references(split), len(corpus.labels))
    return dict(zip(corpus.labels, counts.tolist(), strict=True))


def _first_rows(keys: Keys, split: str) -> np.ndarray:
    """The first row of a split with each of the texts; of those it does not have, any."""
    rows = np.zeros(len(keys.texts), dtype=np.int64)
    mine = keys.of[split]
    rows[mine[::-1]] = np.arange(len(mine))[::-1]
    return rows


def _repeats(
    corpus: Corpus, these: tuple[str, np.ndarray], those: tuple[str, np.ndarray], finding: Finding
) -> Finding:
    """The finding with its rows, each beside the one that it repeats."""
    (split, rows), (other, firsts) = these, those
    rows, firsts = rows[:MOST_ROWS], firsts[:MOST_ROWS]
    places = zip(corpus.places(split, rows), corpus.places(other, firsts), strict=True)
    texts, others = _shown(corpus, split, rows[:EXAMPLES]), _shown(corpus, other, firsts[:EXAMPLES])
    examples = [_beside(text, first) for text, first in zip(texts, others, strict=True)]
    return replace(finding, rows=[f"{one} = {first}" for one, first in places], examples=examples)


def _rows_of(corpus: Corpus, rows: dict[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """Places and examples of rows in several splits."""
    places: list[str] = []
    examples: list[str] = []
    for split, some in rows.items():
        places += corpus.places(split, some[:MOST_ROWS])
        examples += map(_short, _shown(corpus, split, some[:EXAMPLES]))
    return places[:MOST_ROWS], examples[:EXAMPLES]


def _shown(corpus: Corpus, split: str, rows: np.ndarray) -> list[str]:
    """Texts, or pairs, of some rows."""
    texts = texts_of(corpus.splits[split].select(rows))
    if isinstance(texts, Pairs):
        return [f"{a} | {b}" for a, b in zip(texts.first, texts.second, strict=True)]
    return texts


def _beside(one: str, other: str) -> str:
    """Two texts, from shortly before where they differ."""
    if one == other:
        return _short(one)
    same = len(commonprefix([one, other]))
    start = max(same - EXAMPLE_LENGTH // 8, 0)
    before, half = "…" if start else "", EXAMPLE_LENGTH // 2 - 3
    return " = ".join(f"{before}{_short(text[start:], half)}" for text in (one, other))


def _texts(count: int) -> str:
    return "one text" if count == 1 else f"{count:,} texts"


def _short(text: str, length: int = EXAMPLE_LENGTH) -> str:
    line = " ".join(text[: 2 * length].split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if share >= 0.001 else "<0.1%"
