"""Finds what spreadsheets and survey programs leave among labels and texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from nlp_transfer.data.columns import each_cell
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.quality.findings import Finding, Level, places_and_texts

SHOWN = 5  # labels in a sentence
MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
# What Excel makes of 1-3, 2-1 or MAR1, and what it was.
DATE = re.compile(rf"(?:\d{{1,2}}-(?:{MONTHS})|(?:{MONTHS})-\d{{2}})", re.IGNORECASE)
IMPORT_ID = re.compile(r"\s*\{\s*[\"']ImportId[\"']\s*:")


def dates_of_excel(counts: Mapping[str, int]) -> Iterator[Finding]:
    """Labels such as `2-Jan` or `Jan-03` among others: Excel makes them of `1-2` and `1-3`.

    Args:
        counts: rows of train by label.
    """
    dates = [label for label in counts if DATE.fullmatch(label.strip())]
    if not dates or len(dates) == len(counts):
        return
    named = ", ".join(f"{label!r} ({counts[label]:,})" for label in dates[:SHOWN])
    more = f" and {len(dates) - SHOWN} more" if len(dates) > SHOWN else ""
    yield Finding(
        Level.warning,
        "dates",
        f"Labels look like dates that Excel made of others (1-2 becomes 2-Jan): {named}{more}. "
        "Write what they were, with the column formatted as text.",
    )


def second_headers(corpus: Corpus) -> Iterator[Finding]:
    """Rows that survey programs write below the header: Qualtrics' `{"ImportId": …}`."""
    rows = {}
    for split, data in corpus.splits.items():
        cells = each_cell(data, "text")
        rows[split] = np.array([i for i, text in enumerate(cells) if IMPORT_ID.match(text)], int)
    count = sum(map(len, rows.values()))
    if count:
        yield Finding(
            Level.warning,
            "second header",
            f"{count:,} text{'' if count == 1 else 's'} of a second header, as Qualtrics writes "
            "it: remove these rows, and the row of question texts above them.",
            *places_and_texts(corpus, rows),
        )
