"""The words an answer rests on, over HTTP: every variant of the text goes through the queue."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from nlp_transfer.inference.explanation import Question, words_of
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.serving.batcher import Batcher, Limits, Refused

MOST_WORDS = 128  # of a text: each costs an answer
SMALLEST = 1e-7  # a probability, so that its log-odds are finite


async def explain_text(
    batcher: Batcher, text: str, pair: str | None, limits: Limits
) -> dict[str, Any]:
    """The label that is explained, and each word with what its log-odds lose without the word.

    Raises:
        Refused: if the text has too many words, or too much waits already.
    """
    words = [*words_of(text), *(words_of(pair, second=True) if pair is not None else ())]
    most = min(MOST_WORDS, limits.queue - 1)
    if len(words) > most:
        raise Refused(422, f"expected at most {most} words to explain, found {len(words)}.")
    classifier = batcher.classifier
    probabilities = await _answer(batcher, [(text, pair)])
    prediction = classifier.decoder.prediction(probabilities[0])
    question = Question(text, pair, tuple(words), prediction, ())
    variants = [question.without([i]) for i in range(len(words))]
    of_variants = await _answer(batcher, [(t, None if pair is None else p) for t, p in variants])
    label = classifier.labels.index(prediction.label)
    values = margins(np.concatenate([probabilities, of_variants]), label, classifier.decoder)
    return {
        "label": classifier.labels[label],
        "words": [
            {
                "word": word.text,
                "start": word.start,
                "end": word.end,
                "second_text": word.second,
                "weight": float(weight),
            }
            for word, weight in zip(words, values[0] - values[1:], strict=True)
        ],
    }


def margins(probabilities: np.ndarray, label: int, decoder: Decoder) -> np.ndarray:
    """The log-odds of a label, or the score: float64 [rows]."""
    values = probabilities[:, label].astype(np.float64)
    if not decoder.problem.has_labels:
        return values
    values = np.clip(values, SMALLEST, 1 - SMALLEST)
    return np.log(values / (1 - values))


async def _answer(batcher: Batcher, texts: list[tuple[str, str | None]]) -> np.ndarray:
    """Probabilities, or scores; a variant without words is answered as an empty text."""
    firsts = [first for first, _ in texts]
    seconds = [second or "" for _, second in texts] if texts and texts[0][1] is not None else None
    return await asyncio.wrap_future(batcher.submit(firsts, seconds))
