"""Finds labels that look like another label, and cells that stand for a missing value."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from nlp_transfer.data.cells import label_key
from nlp_transfer.data.columns import each_cell
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.data.labels import separators
from nlp_transfer.data.labels.written_lists import list_of
from nlp_transfer.problems.base import integer
from nlp_transfer.quality.findings import (
    Finding,
    Level,
    count_of_texts,
    places_and_texts,
)

SHOWN = 5  # pairs of labels in a sentence
TIMES = 10  # more rows than a misspelling has the label that is meant
FEWEST_LETTERS = 5  # of labels that one letter more or less may confuse
LETTERS_ALIKE = 3  # of labels that are compared without signs
# What programs write for a missing value.
MISSING = frozenset(
    (
        *("nan", "none", "null", "n/a", "na", "<na>", "nat", "nil", "undefined", "-", "?", "."),
        *("\\n", "(null)", "[null]", "<null>", "(blank)", "(empty)", "n.a.", "--", "---"),
        # cells of spreadsheets that could not be computed
        *("#n/a", "#ref!", "#value!", "#name?", "#div/0!", "#num!", "#null!", "#error!"),
        "loading...",
    )
)
# Cyrillic and Greek letters that look like Latin ones.
LOOKALIKES = str.maketrans(
    "аеорсухіјѕАВЕКМНОРСТУХαονΑΒΕΗΙΚΜΝΟΡΤΥΧΖ", "aeopcyxijsABEKMHOPCTYXaovABEHIKMNOPTYXZ"
)
MINUS = str.maketrans("\u2212\u2013\u2010\uff0d", "----")
NUMBERS = re.compile(r"(?=.*\d)[\d\s.,:;/+%$€£()-]+(T[\d:.+-]+Z?)?", re.DOTALL)
WRITTEN = re.compile(r"b(['\"]).*\1|\{.*\}|<.* object at 0x[0-9a-f]+>", re.DOTALL)
# UTF-8 that was read as cp1252 or latin-1: Ã¼, â€™, Â£.
MISREAD = re.compile("Ã[\x80-\xbf\u0160\u0161\u017d\u017e\u0152\u0153¡-¿]|â€|Â[\x80-\xbf ]")


def spelling(counts: Mapping[str, int]) -> Iterator[Finding]:
    """Labels that look like others.

    Args:
        counts: rows of train by label.
    """
    same = list(_pairs(counts, label_key))
    if same:
        yield Finding(
            Level.warning,
            "label spelling",
            f"Labels differ only in case, spaces or Unicode form: {_listed(same, counts)}. "
            "dataset.clean_labels=true merges them.",
        )
    known = {pair for pair in same}
    alike = [p for p in _pairs(counts, _letters) if p not in known] + list(_misspelt(counts, known))
    if alike:
        yield Finding(
            Level.warning,
            "label spelling",
            f"Labels are nearly the same: {_listed(alike, counts)}. If they mean the same, rename "
            "them in the data.",
        )
    missing = [label for label in counts if label.strip().lower() in MISSING]
    if missing and len(counts) > len(missing):
        names = ", ".join(f"{label!r} ({counts[label]:,})" for label in missing[:SHOWN])
        yield Finding(
            Level.warning,
            "missing labels",
            f"Programs write {names} for a missing value: if it is no label, leave such cells "
            "empty.",
        )


def joined_labels(counts: Mapping[str, int]) -> Iterator[Finding]:
    """Classes that look like several labels in one cell: `a|b`, where `a` and `b` are labels too.

    Args:
        counts: rows of train by label.
    """
    joined = separators.joined_labels(counts)
    if joined is None:
        return
    sign, labels = joined
    shown = ", ".join(f"{label!r} ({_rows(counts[label])})" for label in labels[:SHOWN])
    yield Finding(
        Level.warning,
        "joined labels",
        f"Labels look like several with {sign!r} between them: {shown}. "
        f"dataset.delimiter={sign!r} reads them so.",
    )


def texts_of_numbers(corpus: Corpus) -> Iterator[Finding]:
    """Texts that are numbers or dates, where they are most of train."""
    rows = _rows_with(corpus, "train", lambda text: NUMBERS.fullmatch(text) is not None)
    if 2 * len(rows) <= len(corpus.splits["train"]):
        return
    yield Finding(
        Level.warning,
        "numbers",
        f"{len(rows):,} of the {len(corpus.splits['train']):,} texts of train are only numbers or "
        "dates: check that dataset.text names the column of the texts.",
        *places_and_texts(corpus, {"train": rows}),
    )


def written_texts(corpus: Corpus) -> Iterator[Finding]:
    """Texts that are values of Python, words for nothing, or were read in a wrong encoding."""
    checks = (
        ("written values", _is_written, "{} written by Python, such as a list or bytes: take the "
         "text out of it before you write the file."),
        ("missing texts", _is_missing, "{} a word for a missing value, such as nan: leave such "
         "cells empty."),
        ("misread texts", _is_misread, "{} letters that were read in a wrong encoding (such as "
         "Ã¼ for ü): set dataset.encoding, or save the file again."),
    )  # fmt: skip
    for name, holds, sentence in checks:
        rows = {split: _rows_with(corpus, split, holds) for split in corpus.splits}
        count = sum(map(len, rows.values()))
        if count:
            verb = "is" if name != "misread texts" else "has"
            plural = {"is": "are", "has": "have"}[verb]
            beginning = f"{count_of_texts(count).capitalize()} {verb if count == 1 else plural}"
            text = sentence.format(beginning)
            yield Finding(Level.warning, name, text, *places_and_texts(corpus, rows))


def _rows_with(corpus: Corpus, split: str, holds: object) -> np.ndarray:
    assert callable(holds)
    rows = corpus.splits[split]
    names = [name for name in ("text", "text_pair") if name in rows.column_names]
    cells = zip(*(each_cell(rows, name) for name in names), strict=True)
    return np.array([i for i, texts in enumerate(cells) if any(map(holds, texts))], dtype=int)


def _is_written(text: str) -> bool:
    first, last = text[:1], text[-1:]
    if first == "b" or (first == "<" and last == ">") or (first == "{" and last == "}"):
        return WRITTEN.fullmatch(text) is not None
    return first == "[" and last == "]" and list_of(text) is not None


def _is_missing(text: str) -> bool:
    return len(text) < 12 and text.strip().lower() in MISSING


def _is_misread(text: str) -> bool:
    return "\ufffd" in text or (not text.isascii() and MISREAD.search(text) is not None)


def _letters(label: str) -> str:
    """What is left of a label without signs, accents and letters of other scripts."""
    label = re.sub(r"(?<=\d)\.0+$", "", html.unescape(label))  # 1.0 as 1, &amp; as &
    number = label.strip().translate(MINUS).removeprefix("+")
    if integer(number) is not None:
        return number  # +1 as 1; 01 is not, it may be a code
    decomposed = unicodedata.normalize("NFKD", label.translate(LOOKALIKES)).casefold()
    letters = "".join(sign for sign in decomposed if sign.isalnum())
    return letters if len(letters) >= LETTERS_ALIKE and not letters.isdigit() else label


def _pairs(counts: Mapping[str, int], key: object) -> Iterator[tuple[str, str]]:
    """Labels with the same key, each beside the most frequent of them."""
    assert callable(key)
    first: dict[str, str] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        other = first.setdefault(key(label), label)
        if other != label:
            yield label, other


def _misspelt(
    counts: Mapping[str, int], known: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    """Rare labels that one letter sets apart from a frequent one; time linear in the labels."""
    leave_out = {label for label, _ in known}
    words = [label for label in counts if len(label) >= FEWEST_LETTERS and integer(label) is None]
    by_part: dict[str, list[str]] = {}
    for label in words:
        for part in _parts(label):
            by_part.setdefault(part, []).append(label)
    for label in words:
        if not counts[label] or label in leave_out or any(map(str.isdigit, label)):
            continue
        near = {other for part in _parts(label) for other in by_part[part]} - {label}
        often = [other for other in near if counts[other] >= TIMES * counts[label]]
        if often and _letters(label) not in map(_letters, often):
            yield label, max(often, key=lambda other: counts[other])


def _parts(label: str) -> set[str]:
    """A label, and all that is left of it without one letter."""
    folded = label.casefold()
    return {folded, *(folded[:i] + folded[i + 1 :] for i in range(len(folded)))}


def _listed(pairs: list[tuple[str, str]], counts: Mapping[str, int]) -> str:
    examples = "; ".join(
        f"{label!r} ({_rows(counts[label])}) and {other!r} ({_rows(counts[other])})"
        for label, other in pairs[:SHOWN]
    )
    return examples + (f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else "")


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
