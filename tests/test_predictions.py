"""What a run answered is kept row by row, and says of which rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from nlp_transfer import compose
from nlp_transfer.config.loading import to_config
from nlp_transfer.config.schema import plain
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.runs.predictions import read_predictions, rows_digest

Typed = Callable[..., list[str]]


def test_the_metrics_of_a_run_are_those_of_the_answers_it_keeps(finished: Path) -> None:
    config = to_config(plain(OmegaConf.load(finished / "config.yaml")))
    corpus = load_corpus(config.dataset, config.seed)
    metrics = load_metrics(config.evaluation, corpus.labels)
    measured = json.loads((finished / "metrics.json").read_text())
    digests = json.loads((finished / "run.json").read_text())["predictions"]
    assert set(digests) == set(measured) == {"validation", "test"}
    for split, digest in digests.items():
        logits, references = read_predictions(finished, split)
        assert logits.dtype == np.float32
        assert references.tolist() == corpus.references(split).tolist()
        assert metrics.compute(logits, references) == measured[split]["metrics"]
        assert digest == rows_digest(corpus, split)
    with pytest.raises(UserError, match="keeps no answers for its train split") as refused:
        read_predictions(finished, "train")
    assert refused.value.code is ExitCode.RUN_FOLDER


def test_rows_are_known_by_their_texts_their_labels_and_their_order(typed: Typed) -> None:
    config = compose(*typed())
    corpus = load_corpus(config.dataset, config.seed)
    rows = corpus.splits["test"]
    texts, labels = list(rows["text"]), list(rows["label"])

    def digest(**columns: list[object]) -> str:
        changed = rows
        for name, cells in columns.items():
            changed = changed.remove_columns(name).add_column(name, cells)
        return rows_digest(replace(corpus, splits={"test": changed}), "test")

    same = rows_digest(corpus, "test")
    assert digest(text=texts, label=labels) == same
    others = {
        digest(text=[*texts[:-1], f"{texts[-1]}."]),
        digest(label=[*labels[:-1], 1 - labels[-1]]),
        digest(text=texts[::-1], label=labels[::-1]),
    }
    assert len(others | {same}) == 4
