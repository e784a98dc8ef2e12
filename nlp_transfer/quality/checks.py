"""Looks for what is wrong with the data: repeated texts, rare labels, cut and unreadable texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlp_transfer.config.choices import LongText
from nlp_transfer.config.sections.tokenization import TokenizationConfig
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.data.labels.units import advice_about_scores
from nlp_transfer.data.near_duplicates import near_pairs
from nlp_transfer.problems.base import integer, shown, some_of
from nlp_transfer.quality.exports import dates_of_excel, second_headers
from nlp_transfer.quality.findings import (
    EXAMPLES,
    Finding,
    Level,
    count_of_texts,
    places_and_texts,
)
from nlp_transfer.quality.repeated_texts import (
    Keys,
    contradictions,
    duplicates,
    find_keys,
    leaks,
)
from nlp_transfer.quality.shared_columns import shared_columns
from nlp_transfer.quality.spelling import joined_labels, spelling, texts_of_numbers, written_texts
from nlp_transfer.tokenization.batches import BATCH
from nlp_transfer.tokenization.encoding import input_length, texts_of
from nlp_transfer.tokenization.model_inputs import Pairs, Texts
from nlp_transfer.utils.text import percent

EMPTY = "empty"  # the finding about rows that cannot be used
FEW_ROWS = 10  # of a label
MOST_COMPARED = 500_000  # texts among which near duplicates are looked for: 100 MB of hashes
NAMED = 10  # labels in a sentence
MOST_UNKNOWN = 0.5  # the share of unknown tokens that makes a text unreadable
LITTLE = 0.01  # the share of all tokens that may be lost without a warning
WORD = re.compile(r"[^\W\d]+|\d+|[^\w\s]")
SAMPLED = 2000  # rows of train whose words are counted
# Tokens a word: English has 1.02 to 1.10 with MiniLM, other languages 1.5 to 2.0.
FINELY_CUT = 1.35
ONE_LANGUAGE = range(10_000, 100_000)  # tokens of a vocabulary; larger ones are of many languages
NO_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u2e80-\ud7ff]")  # scripts without spaces


@dataclass(frozen=True)
class Tokens:
    """How the tokenizer reads the texts of a split when nothing is cut."""

    lengths: np.ndarray  # int64 [rows], special tokens included
    unknown: np.ndarray  # float64 [rows]: the share of tokens that stand for anything unknown
    special: int  # of each row
    vocabulary: int


def count_tokens(texts: Texts, tokenizer: Any) -> Tokens:
    """Tokenize everything, whole, and keep only the counts."""
    firsts, seconds = (texts.first, texts.second) if isinstance(texts, Pairs) else (texts, None)
    nothing = tokenizer.unk_token_id
    if nothing in (tokenizer.eos_token_id, tokenizer.cls_token_id):
        nothing = None  # byte-level tokenizers know everything, and have only the name of such one
    around = tokenizer.num_special_tokens_to_add(pair=seconds is not None)
    lengths: list[np.ndarray] = []
    unknown: list[np.ndarray] = []
    for start in range(0, len(firsts), BATCH):
        part = slice(start, start + BATCH)
        pairs = None if seconds is None else seconds[part]
        options = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        ids = tokenizer(firsts[part], pairs, truncation=False, padding=False, **options)[
            "input_ids"
        ]
        lengths.append(np.fromiter(map(len, ids), dtype=np.int64))
        known = nothing is None
        unknown.append(np.array([0 if known else row.count(nothing) for row in ids]))
    counts = np.concatenate(lengths)
    shares = np.concatenate(unknown) / np.maximum(counts - around, 1)
    return Tokens(counts, shares, around, len(tokenizer))


def find_all(
    corpus: Corpus, tokens: dict[str, Tokens], max_tokens: int, config: TokenizationConfig
) -> list[Finding]:
    """Every check, the worst first."""
    keys = find_keys(corpus, MOST_COMPARED)
    pairs = near_pairs(keys.texts, keys.compared)
    findings = [
        Finding(Level.good, EMPTY, "No text and no label is empty."),
        *leaks(corpus, keys, pairs),
        *contradictions(corpus, keys),
        *duplicates(corpus, keys, pairs),
        *_sampled(keys),
        *label_findings(corpus),
        *written_texts(corpus),
        *texts_of_numbers(corpus),
        *shared_columns(corpus),
        *second_headers(corpus),
        *_cut(corpus, tokens, max_tokens, config),
        *_unknown(corpus, tokens),
        *_finely_cut(texts_of(corpus.splits["train"]), tokens["train"]),
    ]
    order = list(Level)
    return sorted(findings, key=lambda finding: -order.index(finding.level))


def _sampled(keys: Keys) -> Iterator[Finding]:
    """That near duplicates were looked for among some of the texts."""
    if keys.compared is not None:
        yield Finding(
            Level.good,
            "sampled",
            f"Near duplicates were looked for among {len(keys.compared):,} of "
            f"{len(keys.texts):,} different texts: those of validation and test first, the others "
            "drawn. Exact repetitions were looked for among all.",
        )


def label_findings(corpus: Corpus) -> Iterator[Finding]:
    """Labels that can hardly be learned, and labels that look misspelt."""
    if not corpus.problem.has_labels:
        return
    counts = label_rows(corpus, "train")
    none = [label for label, rows in counts.items() if not rows]
    rare = [f"{shown(label)} ({rows})" for label, rows in counts.items() if 0 < rows < FEW_ROWS]
    if none:
        sentence = f"Train has no row of {some_of(none)}: it cannot be learned."
        yield Finding(Level.problem, "labels", sentence)
    if rare:
        more = f" and {len(rare) - NAMED} others" if len(rare) > NAMED else ""
        named = ", ".join(rare[:NAMED])
        sentence = f"Fewer than {FEW_ROWS} rows of train have the label {named}{more}."
        yield Finding(Level.warning, "labels", sentence)
    yield from _labels_not_held_out(corpus, counts)
    yield from spelling(counts)
    yield from dates_of_excel(counts)
    if corpus.problem.one_label:
        yield from joined_labels(counts)
        yield from labels_of_their_own(counts)
    numbers = [label for label in counts if integer(label) is not None]
    if 0 < len(numbers) < len(counts):
        sentence = f"Some labels are numbers ({', '.join(numbers[:EXAMPLES])}), others are names."
        yield Finding(Level.warning, "labels", sentence)
    if not (none or rare):
        sentence = f"Every label has at least {FEW_ROWS} rows of train."
        yield Finding(Level.good, "labels", sentence)


def _labels_not_held_out(corpus: Corpus, counts: dict[str, int]) -> Iterator[Finding]:
    """Labels of train that validation or test has no row of."""
    for split in corpus.splits.keys() - {"train"}:
        held_out = label_rows(corpus, split)
        absent = [label for label, rows in counts.items() if rows and not held_out[label]]
        if absent:
            sentence = f"No row of {split} has the label {some_of(absent, ' or ')}: "
            sentence += "its figures say nothing about " + ("it." if len(absent) == 1 else "them.")
            yield Finding(Level.warning, "absent labels", sentence)


def labels_of_their_own(counts: dict[str, int]) -> Iterator[Finding]:
    """That most rows have a label which no other row has: another column may be meant."""
    rows, labels = sum(counts.values()), sum(map(bool, counts.values()))
    if labels > max(rows / 2, FEW_ROWS):
        sentence = (
            f"Train has {labels:,} labels for {rows:,} rows: most labels occur once. Check that "
            f"dataset.label names the column of the labels.{advice_about_scores(counts)}"
        )
        yield Finding(Level.warning, "labels", sentence)
    elif (advice := advice_about_scores(counts)) and not all(map(str.isdecimal, counts)):
        yield Finding(Level.warning, "labels", f"The labels are names of classes.{advice}")


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
        sentence = f"{count_of_texts(count)} longer than {length:,} tokens: read in windows."
        yield Finding(Level.good, "cut", sentence)
        return
    total = sum(int(counted.lengths.sum()) for counted in tokens.values())
    lost = sum(int(np.maximum(counted.lengths - length, 0).sum()) for counted in tokens.values())
    level = Level.warning if lost > LITTLE * total else Level.good
    rows = sum(len(counted.lengths) for counted in tokens.values())
    what = "middle" if config.long_text is LongText.head_tail else "end"
    sentence = (
        f"{count:,} of {rows:,} texts ({percent(count / rows)}) are longer than {length:,} tokens "
        f"and lose their {what}, together {percent(lost / total)} of all tokens."
    )
    if level is Level.warning:
        longest = max(int(counted.lengths.max()) for counted in tokens.values())
        sentence += f" {_advice(corpus, length, max_tokens, longest)}"
    yield Finding(level, "cut", sentence, *places_and_texts(corpus, long))


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
        f"The tokenizer does not know at least half of the tokens of {count_of_texts(count)}: the "
        "model cannot read them. A checkpoint of many languages reads more "
        "(checkpoint=xlm_roberta).",
        *places_and_texts(corpus, rows),
    )


def _finely_cut(texts: Texts, tokens: Tokens) -> Iterator[Finding]:
    """Words that the tokenizer cuts into pieces, as those of a language that is not its own."""
    columns = (texts.first, texts.second) if isinstance(texts, Pairs) else (texts,)
    rows = [" ".join(row) for row in zip(*(column[:SAMPLED] for column in columns), strict=True)]
    if tokens.vocabulary not in ONE_LANGUAGE or any(map(NO_SPACES.search, rows)):
        return
    words = sum(len(WORD.findall(row)) for row in rows)
    cut = (tokens.lengths[:SAMPLED] - tokens.special).sum() / max(words, 1)
    if cut > FINELY_CUT:
        yield Finding(
            Level.warning,
            "pieces",
            f"The tokenizer cuts a word of train into {cut:.1f} pieces on average; up to 1.1 are "
            "usual in its own language. If the texts are in another language, a checkpoint of that "
            "language, or of many (checkpoint=xlm_roberta), usually reads them better.",
        )


def label_rows(corpus: Corpus, split: str) -> dict[str, int]:
    """How many rows have each label."""
    counts = corpus.problem.count(corpus.references(split), len(corpus.labels))
    return dict(zip(corpus.labels, counts.tolist(), strict=True))
