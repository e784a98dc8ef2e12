"""An explanation for the terminal: words shaded, or marked where there are no colours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import numpy as np

from nlp_transfer.inference.explanation import Explanation, Word
from nlp_transfer.utils.text import COLUMNS, wrapped

LEVELS = (1 / 6, 1 / 3, 2 / 3)  # of the largest weight, from which a word has one, two, three marks
FOR, AGAINST = (153, 117, 75), (223, 216, 209)  # backgrounds of 256 colours: blue, orange
NAMED = 5  # words that are listed with their weights
LEGEND = "word[+++] is evidence for the label, word[---] against it; more signs, more weight."


def colours() -> bool:
    """Whether the output is a terminal that shows them; https://no-color.org is respected."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def explanation_lines(explanation: Explanation, colour: bool) -> Iterator[str]:
    """The answer, and for each explained label the text and the words with most weight."""
    answer = explanation.prediction
    yield f"{answer.label} {answer.score:.3f}"
    texts = [explanation.text]
    if explanation.text_pair is not None:
        texts.append(explanation.text_pair)
    for place, label in enumerate(explanation.labels):
        weights = explanation.weights[place]
        if len(explanation.labels) > 1 or label != answer.label:
            yield f"  {label} ({answer.probabilities[label]:.3f})"
        for second, text in enumerate(texts):
            own = [i for i, word in enumerate(explanation.words) if word.second is bool(second)]
            words = [explanation.words[i] for i in own]
            yield from _marked(text, words, word_levels(weights)[own], colour)
        yield from _named(explanation.words, weights)
        yield from _incomplete(explanation, place)


def word_levels(weights: np.ndarray) -> np.ndarray:
    """How much each word speaks for (1 to 3) or against (-1 to -3) a label: int [words]."""
    largest = float(np.abs(weights).max(initial=0.0))
    if largest == 0:
        return np.zeros(len(weights), dtype=int)
    return (np.sign(weights) * np.digitize(np.abs(weights) / largest, LEVELS)).astype(int)


def _marked(text: str, words: list[Word], levels: np.ndarray, colour: bool) -> Iterator[str]:
    """The text in lines; spaces of any kind are one."""
    pieces: list[tuple[str, str]] = []  # the letters, and how they are printed
    place = 0
    for word, level in zip(words, levels, strict=True):
        pieces += [(" ", " ")] if text[place : word.start].isspace() else []
        pieces.append(_shaded(" ".join(word.text.split()), int(level), colour))
        place = word.end
    line, width = "  ", 2
    for i, (visible, printed) in enumerate(pieces):
        if visible == " ":
            following = sum(len(s) for s, _ in _until_space(pieces[i + 1 :]))
            if width + 1 + following > COLUMNS and width > 2:
                yield line
                line, width = "  ", 2
                continue
        line, width = line + printed, width + len(visible)
    yield line.rstrip()


def _until_space(pieces: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for piece in pieces:
        if piece[0] == " ":
            return
        yield piece


def _shaded(word: str, level: int, colour: bool) -> tuple[str, str]:
    if level == 0:
        return word, word
    if not colour:
        marked = f"{word}[{('+' if level > 0 else '-') * abs(level)}]"
        return marked, marked
    background = (FOR if level > 0 else AGAINST)[abs(level) - 1]
    return word, f"\x1b[38;5;16;48;5;{background}m{word}\x1b[0m"


def _named(words: tuple[Word, ...], weights: np.ndarray) -> Iterator[str]:
    order = np.argsort(-np.abs(weights), kind="stable")
    for name, sign in (("for", 1), ("against", -1)):
        some = [i for i in order if sign * weights[i] > 0][:NAMED]
        if some:
            listed = ", ".join(f"{_quoted(words[i].text)} {weights[i]:+.2f}" for i in some)
            yield from wrapped(f"    {name}: {listed}")


def _quoted(word: str) -> str:
    """A word in a list; a sign alone would be taken for one of the list's."""
    return word[:40] if any(map(str.isalnum, word)) else f"'{word[:40]}'"


def _incomplete(explanation: Explanation, place: int) -> Iterator[str]:
    if explanation.errors is not None:
        total, error = float(explanation.weights[place].sum()), explanation.errors[place]
        yield f"    sum of the weights {total:+.2f}, off by {abs(error):.3f}"
