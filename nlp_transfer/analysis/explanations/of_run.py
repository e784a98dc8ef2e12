"""Explains a finished run for its report: its mistakes, the words of each class, and the check.

The result, `explanations.json`, holds rows of the data: it stays in the run folder.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from nlp_transfer.analysis.explanations.check import removal_curves
from nlp_transfer.analysis.explanations.nearest_rows import Neighbour, nearest_rows
from nlp_transfer.analysis.explanations.text import word_levels
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.data.splitters import stratified_part
from nlp_transfer.errors import UserError
from nlp_transfer.inference.classifier import Classifier
from nlp_transfer.inference.explanation import Explanation
from nlp_transfer.runs.names import EXPLANATIONS_FILE, MISTAKES_FILE
from nlp_transfer.runs.reopen import reopen
from nlp_transfer.tokenization.encoding import select_texts, texts_of
from nlp_transfer.tokenization.model_inputs import Pairs
from nlp_transfer.utils.files import read_json, write_json
from nlp_transfer.utils.logging import logger

MISTAKES = 20  # that are shaded, the most confident of each kind first
ROWS = 50  # for the words of the classes, and the check
NEIGHBOURS = 2
MOST_CLASSES = 12  # that have a table of words
WORDS = 8  # of a class, for and against
FEWEST_ROWS = 2  # that a word is in
LONGEST = 120  # characters of a neighbour
GIVE_AGAIN = "Leave out --explain."


def explain_run(folder: Path, threads: int | None = None) -> float:
    """Write `explanations.json` of a finished run, by leaving words out.

    Returns:
        The seconds that it took.

    Raises:
        UserError: if the run is not finished, or its data cannot be read again.
    """
    start = time.perf_counter()
    classifier = Classifier.load(folder, threads=threads)
    _, corpus = reopen(folder, "or leave out --explain", GIVE_AGAIN)
    entries: dict[str, Any] = {"method": "occlusion", "split": corpus.deciding_split}
    entries["mistakes"] = list(_mistakes(folder, classifier, corpus))
    explanations = _of_rows(classifier, corpus)
    entries["rows"] = len(explanations)
    entries["classes"] = list(_classes(classifier, explanations))
    try:
        check = removal_curves(classifier, [_of_answer(each) for each in explanations])
        entries["check"] = asdict(check)
        entries["verdicts"] = check.verdicts()
    except UserError as error:  # no text has enough words
        logger.info("%s", error)
    write_json(folder / EXPLANATIONS_FILE, entries)
    return time.perf_counter() - start


def _mistakes(folder: Path, classifier: Classifier, corpus: Corpus) -> Iterator[dict[str, Any]]:
    """The shaded words, and the nearest rows of train, of the mistakes that the report shows."""
    file = folder / MISTAKES_FILE
    mistakes = read_json(file) if file.is_file() else {"kinds": []}
    if not mistakes["kinds"]:
        return
    split = mistakes["split"]
    places = {(o.get("file"), o["row"]): i for i, o in enumerate(corpus.origins(split))}
    shown = [
        (place, kind, row)
        for kind in mistakes["kinds"]
        for place, row in enumerate(kind["examples"])
        if (row.get("file"), row["row"]) in places
    ]
    shown = sorted(shown, key=lambda each: each[0])[:MISTAKES]
    chosen = [places[row.get("file"), row["row"]] for _, _, row in shown]
    if not chosen:
        return
    texts = select_texts(texts_of(corpus.rows(split)), chosen)
    first, second = (texts.first, texts.second) if isinstance(texts, Pairs) else (texts, None)
    explained = classifier.explain(first, second)
    # A row of train is its own nearest one: one more is asked for, and it is left out.
    near = nearest_rows(folder, first, second, NEIGHBOURS + 1)
    for (_, _, row), explanation, neighbours in zip(shown, explained, near, strict=True):
        if explanation is None:
            continue
        yield {
            "file": row.get("file"),
            "row": row["row"],
            "label": explanation.labels[0],
            "answer": explanation.prediction.label,
            "parts": _parts(explanation),
            "neighbours": [_neighbour(n) for n in neighbours if n.text != explanation.text][
                :NEIGHBOURS
            ],
        }


def _parts(explanation: Explanation) -> list[list[tuple[str, int]]]:
    """For each text its pieces in order, with -3 to 3 for how much each speaks for the label."""
    levels = word_levels(explanation.weights[0])
    texts = [explanation.text]
    if explanation.text_pair is not None:
        texts.append(explanation.text_pair)
    parts = []
    for second, text in enumerate(texts):
        pieces: list[tuple[str, int]] = []
        end = 0
        for word, level in zip(explanation.words, levels, strict=True):
            if word.second is bool(second):
                pieces += [(text[end : word.start], 0)] if word.start > end else []
                pieces.append((text[word.start : word.end], int(level)))
                end = word.end
        parts.append([*pieces, (text[end:], 0)] if end < len(text) else pieces)
    return parts


def _neighbour(neighbour: Neighbour) -> dict[str, Any]:
    text = neighbour.text
    if neighbour.text_pair is not None:
        text = f"{text} / {neighbour.text_pair}"
    short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return {
        "similarity": round(neighbour.similarity, 3),
        "label": neighbour.label,
        "text": short,
        "place": neighbour.place,
    }


def _of_rows(classifier: Classifier, corpus: Corpus) -> list[Explanation]:
    """Explanations of rows of validation (of folds: of train) for every label, drawn by label."""
    split = corpus.deciding_split
    strata = corpus.problem.strata(corpus.references(split))
    chosen = np.arange(len(strata))
    if len(chosen) > ROWS:
        chosen = stratified_part(strata, ROWS, seed=0)
    texts = select_texts(texts_of(corpus.rows(split)), chosen)
    first, second = (texts.first, texts.second) if isinstance(texts, Pairs) else (texts, None)
    explained = classifier.explain(first, second, labels=classifier.labels)
    return [each for each in explained if each is not None]


def _of_answer(explanation: Explanation) -> Explanation:
    """For the label that was given alone."""
    answer = explanation.prediction
    label = answer.labels[0] if answer.labels else answer.label
    place = explanation.labels.index(label) if label in explanation.labels else 0
    labels = (explanation.labels[place],)
    return replace(explanation, labels=labels, weights=explanation.weights[[place]])


def _classes(
    classifier: Classifier, explanations: Sequence[Explanation]
) -> Iterator[dict[str, Any]]:
    """The words that speak most for and against each class: mean weights where they occur."""
    if not classifier.decoder.problem.has_labels:
        return
    for place, label in enumerate(classifier.labels[:MOST_CLASSES]):
        weights: dict[str, list[float]] = defaultdict(list)
        for explanation in explanations:
            of_row: dict[str, float] = defaultdict(float)
            for word, weight in zip(explanation.words, explanation.weights[place], strict=True):
                if any(sign.isalnum() for sign in word.text):
                    of_row[word.text.casefold()] += float(weight)
            for word_text, weight in of_row.items():
                weights[word_text].append(weight)
        means = {w: (np.mean(v), len(v)) for w, v in weights.items() if len(v) >= FEWEST_ROWS}
        order = sorted(means, key=lambda word: means[word][0])
        yield {
            "label": label,
            "for": [_entry(w, means) for w in reversed(order) if means[w][0] > 0][:WORDS],
            "against": [_entry(w, means) for w in order if means[w][0] < 0][:WORDS],
        }


def _entry(word: str, means: dict[str, tuple[Any, int]]) -> dict[str, Any]:
    mean, rows = means[word]
    return {"word": word, "weight": round(float(mean), 3), "rows": rows}
