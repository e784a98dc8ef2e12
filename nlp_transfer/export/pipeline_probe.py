"""Answers texts by exported folders in a process that cannot import this package.

`PipelineProbe` runs this text with `python -c`. When it is told to, by a line of JSON with two
files, it reads `[{"folder": …, "texts": […]}]` from the first (a pair is `{"text": …, "text_pair":
…}`) and writes `[[{label: probability}]]` to the second. Without a line it ends.
"""

import contextlib
import gc
import json
import os
import sys
from typing import Any

gc.disable()  # half a second of the imports, and the process is short
# Importing these fails from here on: this package, and what transformers imports where it is there.
for absent in ("nlp_transfer", "datasets", "pandas", "peft", "scipy", "sklearn"):
    sys.modules[absent] = None  # type: ignore[assignment]

import torch  # noqa: E402
from transformers import logging, pipeline  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()


def answer(folder: str, texts: list[str | dict[str, str]]) -> list[dict[str, float]]:
    """What `pipeline` says to each text."""
    classify = pipeline("text-classification", folder, device="cpu")
    how = getattr(classify.model.config, "long_text", None) or {"how": "truncate"}
    if how["how"] == "truncate":
        rows = classify(texts, top_k=None, truncation=True, batch_size=16)
    else:
        rows = [document(classify, text, **how) for text in texts]
    return [{score["label"]: score["score"] for score in row} for row in rows]


def document(classify: Any, text: Any, how: str, stride: int, pooling: str) -> Any:
    """One document that is read in windows, or by its beginning and its end."""
    tokenizer, longest = classify.tokenizer, classify.tokenizer.model_max_length
    if how == "windows":
        more = {"truncation": True, "stride": stride, "return_overflowing_tokens": True}
        rows = tokenizer(text, padding=True, return_tensors="pt", **more)
        rows.pop("overflow_to_sample_mapping")
    else:
        rows = tokenizer(text, return_tensors="pt", verbose=False)
        n, head = rows["input_ids"].shape[1], (longest + 1) // 2
        columns = [*range(head), *range(n - longest + head, n)] if n > longest else [*range(n)]
        rows = {name: tokens[:, columns] for name, tokens in rows.items()}
    with torch.inference_mode():
        logits = classify.model(**rows).logits
    logits = logits.amax(0) if pooling == "max" else logits.mean(0)
    return classify.postprocess({"logits": logits[None]}, top_k=None, _legacy=False)


if __name__ == "__main__":
    line = sys.stdin.readline()
    if line:
        from_file, to_file = json.loads(line)
        with open(from_file, encoding="utf-8") as file:  # noqa: PTH123
            questions = json.load(file)
        answers = [answer(question["folder"], question["texts"]) for question in questions]
        with open(to_file, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(answers, file)
    else:  # the process that started it has ended
        with contextlib.suppress(OSError):
            os.rmdir(os.getcwd())  # noqa: PTH106, PTH109
