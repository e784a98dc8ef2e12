"""Says what is in the data and what is wrong with it, before anything is trained."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.tokenization import TokenizationConfig
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.data.faults import Faults
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.loading import load_tokenizer
from nlp_transfer.quality.checks import EMPTY, Tokens, count_tokens, find_all, label_rows
from nlp_transfer.quality.findings import MOST_ROWS, Level
from nlp_transfer.runs.folder import RunFolder
from nlp_transfer.tokenization.encoding import input_length, stored_texts
from nlp_transfer.utils.distributed import join
from nlp_transfer.utils.files import read_json, write_json
from nlp_transfer.utils.logging import logger
from nlp_transfer.utils.text import COLUMNS, shortened, wrapped

PERCENTILES = (5, 25, 50, 75, 95, 99)
SHOWN_LABELS = 5
SHOWN_ROWS = 4  # of one text
TEXT_LINES = 2  # of a text on the terminal
SENTENCE_INDENT, ROW_INDENT, TEXT_INDENT = 9, 11, 13


def make(
    corpus: Corpus, tokenizer: Any, max_tokens: int, config: TokenizationConfig
) -> dict[str, Any]:
    """The data report, as `data_report.json` has it."""
    tokens = {
        split: count_tokens(stored_texts(rows), tokenizer) for split, rows in corpus.splits.items()
    }
    length = input_length(max_tokens, config)
    findings = find_all(corpus, tokens, max_tokens, config)
    return {
        "findings": [finding.as_dict() for finding in findings],
        "splits": {split: _about(corpus, split, tokens[split], length) for split in corpus.splits},
        "notes": list(corpus.notes),
    }


def keep(
    folder: RunFolder, corpus: Corpus, tokenizer: Any, max_tokens: int, config: TokenizationConfig
) -> None:
    """Write the report into a run folder, unless it is there, and log what matters of it."""
    if not folder.process.is_first:
        return
    if not folder.data_report.is_file():
        write_json(folder.data_report, make(corpus, tokenizer, max_tokens, config))
    report = read_json(folder.data_report)
    for line in (*table(report), *sentences(report, [Level.problem, Level.warning])):
        logger.info(line)
    logger.info("data report, with the rows: %s", folder.data_report)


def check(config: Config, corpus: Corpus, faults: Faults, out: Path | None = None) -> None:
    """Print the report of what a run would train on; only the checkpoint's tokenizer is loaded.

    Args:
        corpus: the data of the configuration.
        faults: rows that cannot be used, which the corpus lacks; they stand in the error.
        out: a file for the report with all rows, in JSON.

    Raises:
        UserError: if there is a problem.
    """
    join(config.training)
    tokenizer, max_tokens = load_tokenizer(config.checkpoint)
    report = make(corpus, tokenizer, max_tokens, config.tokenization)
    if faults.faults:
        report["findings"] = [f for f in report["findings"] if f["check"] != EMPTY]
    if out is not None:
        write_json(out, report)
    print("\n".join(for_terminal(report, out)))
    problems = sum(finding["level"] == Level.problem.value for finding in report["findings"])
    if problems:
        count = "one problem" if problems == 1 else f"{problems} problems"
        refusal = UserError(ExitCode.DATA, f"The data have {count}: see above.")
        faults.refuse(refusal)
        raise refusal
    faults.refuse()


def table(report: dict[str, Any]) -> Iterator[str]:
    """One line for each split."""
    yield f"{'data':<12}{'rows':>9}   {'tokens: median':>14}{'95%':>7}{'longest':>9}   labels"
    for split, about in report["splits"].items():
        tokens = about["tokens"]
        yield (
            f"{split:<12}{about['rows']:>9,}   {tokens['p50']:>14,.0f}{tokens['p95']:>7,.0f}"
            f"{tokens['longest']:>9,}   {_answers(about)}"
        )


def sentences(report: dict[str, Any], levels: list[Level]) -> Iterator[str]:
    """The findings of some levels, one line each."""
    values = [level.value for level in levels]
    for finding in report["findings"]:
        if finding["level"] in values:
            yield f"{finding['level']:<9}{finding['sentence']}"


def for_terminal(report: dict[str, Any], out: Path | None = None) -> Iterator[str]:
    """The whole report, with some rows of each finding, in lines of 80 columns.

    Args:
        out: the file that has all rows; None: there is none.
    """
    for line in "\n".join(report["notes"]).splitlines():
        yield from wrapped(line)
    for line in table(report):
        yield from wrapped(line, TEXT_INDENT)
    yield ""
    more = False
    for finding, line in zip(report["findings"], sentences(report, list(Level)), strict=True):
        yield from wrapped(line, SENTENCE_INDENT)
        shown = yield from _rows_of(finding)
        rest = len(finding["rows"]) - shown
        if rest:
            more = True
            count = "more" if len(finding["rows"]) == MOST_ROWS else f"{rest:,} more"
            yield f"{'':<{ROW_INDENT}}and {count}"
    if out is not None:
        yield f"\nEvery finding, with its rows: {out}"
    elif more:
        yield "\nAdd --out FILE.json for all rows of each finding."


def _rows_of(finding: dict[str, Any]) -> Generator[str, None, int]:
    """Rows with their texts, those of one text together; returns how many."""
    rows = zip(finding["rows"], finding["examples"], strict=False)
    shown = 0
    for text, of_text in itertools.groupby(rows, key=lambda row: row[1]):
        some = list(of_text)[:SHOWN_ROWS]
        shown += len(some)
        for place, _ in some:
            yield from _place(f"{'':<{ROW_INDENT}}{place}")
        yield from wrapped(f"{'':<{TEXT_INDENT}}{text}", TEXT_INDENT, most=TEXT_LINES)
    return shown


def _place(line: str) -> Iterator[str]:
    """A row, or two that are the same: where they do not fit into a line, one below the other."""
    one, equals, other = line.partition(" = ")
    lines = [one, f"{'':<{TEXT_INDENT}}= {other}"] if equals and len(line) > COLUMNS else [line]
    for part in lines:
        yield from wrapped(part)


def _about(corpus: Corpus, split: str, tokens: Tokens, length: int) -> dict[str, Any]:
    rows = len(corpus.splits[split])
    about: dict[str, Any] = {"rows": rows, "labels": {}, "tokens": _of_tokens(tokens, length)}
    if not corpus.problem.has_labels:
        scores = corpus.references(split)
        numbers = {"lowest": scores.min(), "mean": scores.mean(), "highest": scores.max()}
        about["scores"] = {name: float(f"{value:.5g}") for name, value in numbers.items()}
        return about
    counts = label_rows(corpus, split).items()
    about["labels"] = {label: {"rows": n, "share": round(n / rows, 4)} for label, n in counts}
    return about


def _of_tokens(tokens: Tokens, length: int) -> dict[str, Any]:
    lengths = tokens.lengths
    percentiles: dict[str, Any] = {f"p{p}": float(np.percentile(lengths, p)) for p in PERCENTILES}
    return {
        **percentiles,
        "mean": round(float(lengths.mean()), 2),
        "longest": int(lengths.max()),
        "total": int(lengths.sum()),
        "max_length": length,
        "longer": int((lengths > length).sum()),
        "beyond": int(np.maximum(lengths - length, 0).sum()),
    }


def _answers(about: dict[str, Any]) -> str:
    if "scores" in about:
        return "scores from {lowest:g} to {highest:g}, mean {mean:g}".format(**about["scores"])
    labels = sorted(about["labels"].items(), key=lambda item: -item[1]["rows"])
    shares = ", ".join(
        f"{shortened(label)} {100 * n['share']:.1f}%" for label, n in labels[:SHOWN_LABELS]
    )
    more = len(labels) - SHOWN_LABELS
    return f"{shares} and {more} more" if more > 0 else shares
