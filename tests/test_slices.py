"""The metrics of a part are those of its rows, whatever the part is."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import make_rows
from datasets import ClassLabel, Dataset, Features, Value
from sklearn import metrics as sk

from nlp_transfer import compose, run
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.data.corpus import SLICE_PREFIX as KEPT
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.evaluator import evaluate_split
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.evaluation.slices import LENGTH, MOST, slices_of

Typed = Callable[..., list[str]]


def write(path: Path, rows: int, seed: int, sources: tuple[str, ...] = ("web", "mail", "")) -> Path:
    """Texts with a column that says where they come from."""
    table = [(*row, sources[i % len(sources)]) for i, row in enumerate(make_rows(rows, seed))]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label", "source"), *table])
    return path


def test_every_row_is_in_one_part_of_each_cut() -> None:
    texts = [text for text, _ in make_rows(101)]
    sources = ["web"] * 60 + ["mail"] * 41
    rows = Dataset.from_dict({"text": texts, f"{KEPT}source": sources})
    slices = slices_of(rows, ["source"])
    assert list(slices) == [LENGTH, "source"]
    for parts in slices.values():
        assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(101))
    assert {value: len(part) for value, part in slices["source"].items()} == {"web": 60, "mail": 41}
    assert len(slices[LENGTH]) == 4
    for name, part in slices[LENGTH].items():
        low, high = name.removesuffix(" characters").split("-")
        assert {int(low) <= len(texts[i]) <= int(high) for i in part} == {True}
        assert 20 <= len(part) <= 31


def test_texts_of_one_length_are_one_part() -> None:
    rows = Dataset.from_dict({"text": ["abc"] * 7})
    assert {name: len(part) for name, part in slices_of(rows, [])[LENGTH].items()} == {
        "3-3 characters": 7
    }


def test_a_column_of_many_values_keeps_the_frequent_ones() -> None:
    values = ["often"] * 5 + [f"value {i}" for i in range(100)]
    rows = Dataset.from_dict({"text": ["a"] * 105, f"{KEPT}id": values})
    by_value = slices_of(rows, ["id"])["id"]
    assert len(by_value) == MOST
    assert len(by_value["often"]) == 5
    assert len(by_value["(82 rarer values)"]) == 82


def test_a_part_has_the_metrics_of_its_rows() -> None:
    generator = np.random.default_rng(0)
    references = generator.integers(0, 2, 90)
    logits = (np.eye(2)[references] + generator.normal(size=(90, 2))).astype(np.float32)
    texts = ["a" * (1 + i % 9) for i in range(90)]
    rows = Dataset.from_dict({"text": texts, f"{KEPT}half": ["first"] * 45 + ["second"] * 45})
    metrics = load_metrics(EvaluationConfig(["accuracy", "log_loss"]), ("a", "b"))
    slices = slices_of(rows, ["half"])
    evaluation = evaluate_split(logits, references, metrics, ("a", "b"), slices).slices
    first = evaluation["half"][0]
    accuracy = sk.accuracy_score(references[:45], logits[:45].argmax(axis=1))
    assert first["value"] == "first"
    assert first["rows"] == 45
    assert first["metrics"]["accuracy"] == pytest.approx(accuracy)
    low, high = first["intervals"]["accuracy"]
    assert low < accuracy < high
    whole = evaluate_split(logits, references, metrics, ("a", "b")).intervals["accuracy"]
    assert high - low > whole[1] - whole[0]


def test_columns_to_slice_by_are_texts_and_part_of_the_fingerprint(tmp_path: Path) -> None:
    features = Features(
        {"text": Value("string"), "label": Value("string"), "kind": ClassLabel(names=["x", "y"])}
    )
    texts, labels = zip(*make_rows(40), strict=True)
    columns = {"text": texts, "label": labels, "kind": [0, 1] * 20}
    Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "rows.parquet")
    config = DatasetConfig(train=str(tmp_path / "rows.parquet"))
    plain, sliced = load_corpus(config, 0), load_corpus(config, 0, ["kind"])
    assert plain.splits["train"].column_names == ["text", "label", "source", "row"]
    assert set(sliced.splits["test"][f"{KEPT}kind"]) == {"x", "y"}
    assert plain.fingerprint != sliced.fingerprint


def test_a_column_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    config = DatasetConfig(train=str(write(tmp_path / "rows.csv", 40, 0)))
    with pytest.raises(UserError, match="evaluation.slices='origin' is not a column") as caught:
        load_corpus(config, 0, ["origin"])
    assert caught.value.code is ExitCode.DATA
    assert "text, label, source" in str(caught.value)


@pytest.mark.slow
def test_a_run_measures_the_parts_that_were_asked_for(typed: Typed, tmp_path: Path) -> None:
    sizes = {"train": 101, "validation": 32, "test": 33}
    files = [
        f"dataset.{split}={write(tmp_path / f'{split}.csv', size, seed)}"
        for seed, (split, size) in enumerate(sizes.items())
    ]
    more = ("evaluation.slices=[source]", "strategy=feature_extraction", "run_dir=mine")
    result = run(compose(*typed(*files, *more)))
    measured = json.loads(Path("mine/metrics.json").read_text())
    for split in ("validation", "test"):
        parts = measured[split]["slices"]
        assert set(parts) == {LENGTH, "source"}
        assert {part["value"] for part in parts["source"]} == {"web", "mail", "(empty)"}
        for slices in parts.values():
            assert sum(part["rows"] for part in slices) == measured[split]["rows"]
    printed = str(result)
    assert "source (test)" in printed
    assert "mail" in printed
