"""Label names and descriptions as texts: each can be one more training row of its label."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems.base import some_of

# Words that say nothing about the texts of their label.
EMPTY_WORDS = frozenset(
    ("yes", "no", "true", "false", "label", "class", "category", "other", "others", "none")
    + ("unknown", "neutral", "misc", "correct", "incorrect", "valid", "invalid")
)
CODE = re.compile(r"[A-Z0-9]{1,5}")  # DESC, HUM, Q1


def label_texts(
    labels: Sequence[str], descriptions: Mapping[str, str] | None = None
) -> list[str] | None:
    """One text for each label, or None where the names are not words.

    Args:
        descriptions: by label (`dataset.label_descriptions`); where given, they are the texts.

    Raises:
        UserError: if a description is for no label, or a label has none.
    """
    if descriptions is not None:
        unknown = sorted(set(descriptions) - set(labels))
        missing = [label for label in labels if not descriptions.get(label, "").strip()]
        if unknown or missing:
            lacking = f"; no description of {', '.join(missing[:5])}" if missing else ""
            raise UserError(
                ExitCode.CONFIG,
                "dataset.label_descriptions must describe each label: expected "
                f"{some_of(labels)}, found {some_of(descriptions)}{lacking}.",
            )
        return [descriptions[label] for label in labels]
    texts = [_spoken(label) for label in labels]
    if len(set(texts)) < len(texts) or not all(map(_says_something, labels, texts)):
        return None
    return texts


def _spoken(label: str) -> str:
    """`card_arrival` and `cardArrival` as they are spoken: card arrival."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label)
    return " ".join(re.sub(r"[_\-/.:]+", " ", apart).lower().split())


def _says_something(label: str, text: str) -> bool:
    if CODE.fullmatch(label):
        return False
    words = [word for word in text.split() if len(word) > 2 and word.isalpha()]
    return any(word not in EMPTY_WORDS for word in words)
