"""Picks the rows on which the exported folder is compared with the model in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from nlp_transfer.export.verification import Claim
from nlp_transfer.run_state import Measured
from nlp_transfer.tokenization.encoding import select_texts, texts_of
from nlp_transfer.tokenization.subsets import select_documents


def claim_of(measured: Measured) -> Claim:
    """Texts evenly taken from validation, or from train where there is none; shortest first.

    `export.verify_rows` says how many; 0: all of them. On every process.
    """
    fitted, context = measured.fitted, measured.fitted.prepared.context
    corpus, count = fitted.prepared.setup.corpus, context.config.export.verify_rows
    # Answers of other models, out of fold or held out, are not claims about the final one.
    own = {s: e for s, e in measured.evaluations.items() if s not in fitted.answers}
    split = "validation" if "validation" in own else "train"
    texts = texts_of(corpus.splits[split])
    rows = np.unique(np.linspace(0, len(texts) - 1, count or len(texts)).astype(int))
    rows = np.array(sorted(rows, key=lambda row: len(str(texts[row]))))
    if split in own:
        logits = own[split].logits[rows]
    else:
        logits = context.predict(
            fitted.model, select_documents(context.encoded.splits[split], rows)
        )
    texts, model = select_texts(texts, rows), context.folder.model
    return Claim(model, texts, corpus.labels, logits, corpus.problem, split)


def verification_entries(claim: Claim, worst: float, fresh_process: bool) -> dict[str, Any]:
    """For `run.json`: on how many rows the folder was compared, and the largest difference."""
    return {
        "rows": len(claim.texts),
        "difference": worst,
        "split": claim.split,
        "fresh_process": fresh_process,
    }
