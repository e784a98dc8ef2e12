"""Answers for exported folders in a process that cannot import this package.

`export.verify` runs this text with `python -c`; arguments: a JSON file with
`[{"folder": …, "texts": […]}]` (a pair is `{"text": …, "text_pair": …}`), and the file for the
answers, `[[{label: probability}]]`.
"""

import json
import sys

sys.modules["nlp_transfer"] = None  # type: ignore[assignment]  # importing it fails from here on

from transformers import logging, pipeline  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()


def answer(folder: str, texts: list[str | dict[str, str]]) -> list[dict[str, float]]:
    """What `pipeline` says to each text."""
    classify = pipeline("text-classification", folder, device="cpu")
    rows = classify(texts, top_k=None, truncation=True, batch_size=16)
    return [{score["label"]: score["score"] for score in row} for row in rows]


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123
        questions = json.load(file)
    answers = [answer(question["folder"], question["texts"]) for question in questions]
    with open(sys.argv[2], "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(answers, file)
