"""The model card: read again as the Hub reads it, equal to what was measured, and discreet."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import make_rows, write_csv
from huggingface_hub import ModelCard

from nlp_transfer import compose, run
from nlp_transfer.config.schema import Config
from nlp_transfer.reporting.card.card import model_card, repeatable
from nlp_transfer.reporting.card.examples import shows_examples, with_examples
from nlp_transfer.runs.identity import run_path

Typed = Callable[..., list[str]]
MEASURED = ("evaluation.metrics=[accuracy,f1,f1_macro,matthews,log_loss]",)


@dataclass(frozen=True)
class Carded:
    """A finished run, its card as a text and as the Hub reads it."""

    config: Config
    folder: Path
    metrics: dict[str, Any]
    text: str
    card: ModelCard


def finished(typed: list[str]) -> Carded:
    """Train for one epoch, and read the card."""
    config = compose(*typed)
    result = run(config)
    text = (result.model / "README.md").read_text(encoding="utf-8")
    return Carded(config, result.folder, result.metrics, text, ModelCard(text))


@pytest.fixture(scope="module")
def carded(typed: Typed, tmp_path_factory: pytest.TempPathFactory) -> Carded:
    """Of a tiny checkpoint on files."""
    folder = tmp_path_factory.mktemp("carded")
    options = ("strategy=feature_extraction", "strategy.epochs=1", *MEASURED)
    stores = (f"tokenization.folder={folder / 'tokens'}", f"features.folder={folder / 'features'}")
    return finished(typed(*options, *stores, f"run_dir={folder / 'run'}"))


def written(carded: Carded) -> dict[str, Any]:
    """What `run.json` says."""
    return json.loads((carded.folder / "run.json").read_text(encoding="utf-8"))


def test_the_numbers_are_those_of_metrics_json_to_the_last_digit(carded: Carded) -> None:
    results = carded.card.data.eval_results
    assert results is not None
    on_card = {(r.dataset_split, r.metric_name): r.metric_value for r in results}
    measured = json.loads((carded.folder / "metrics.json").read_text(encoding="utf-8"))
    assert on_card == {
        (split, name): value
        for split, figures in measured.items()
        for name, value in figures["metrics"].items()
    }
    assert {r.metric_type for r in results} == {
        "accuracy",
        "f1",
        "matthews_correlation",
        "log_loss",
    }
    for figures in measured.values():
        intervals = figures["intervals"]
        cells = [
            f"{value:.4f} [{intervals[name][0]:.4f}, {intervals[name][1]:.4f}]"
            for name, value in figures["metrics"].items()
        ]
        row = " | ".join(cells)
        assert f"| {figures['rows']} | {row} |" in carded.text


def test_the_metadata_say_what_the_hub_sorts_by_and_no_path_of_this_machine(carded: Carded) -> None:
    data = carded.card.data.to_dict()
    assert data["pipeline_tag"] == "text-classification"
    assert data["library_name"] == "transformers"
    assert data["model-index"][0]["name"] == "classify-tiny-bert"
    # A local folder is no checkpoint of the Hub, local files are no dataset of the Hub.
    assert "base_model" not in data and "datasets" not in data
    assert str(carded.config.checkpoint.name) not in carded.text
    assert str(Path(carded.config.dataset.train).parent) not in carded.text
    assert "/tmp" not in carded.text


def test_no_text_of_the_data_is_in_the_exported_folder(
    carded: Carded, reviews: dict[str, Path]
) -> None:
    rows = [row for seed, size in enumerate((101, 32, 33)) for row in make_rows(size, seed)]
    assert rows[0][0] in reviews["train"].read_text()
    for file in (carded.folder / "model").iterdir():
        content = file.read_bytes()
        assert not any(text.encode() in content for text, _ in rows), file


def test_examples_come_and_go_with_the_wish_for_them(carded: Carded) -> None:
    assert not shows_examples(carded.folder / "model" / "README.md")
    shown = with_examples(carded.text, [("a text with | and\nlines", "positive")])
    assert "| a text with \\| and lines | positive |" in shown
    Path("README.md").write_text(shown)
    assert shows_examples(Path("README.md"))
    assert with_examples(shown, []) == carded.text


def test_what_the_card_says_of_repeating_is_the_same_run(carded: Carded) -> None:
    block = re.search(r"```yaml\n(.*?)```", carded.text, re.DOTALL)
    assert block is not None
    Path("mine/task").mkdir(parents=True)
    Path("mine/task/repeat.yaml").write_text(block[1])
    # The card knows files and local checkpoints by name only: they lie where one stands.
    for split in ("train", "validation", "test"):
        source = Path(getattr(carded.config.dataset, split))
        shutil.copy(source, source.name)
    local = Path(carded.config.checkpoint.name)
    shutil.copytree(local, local.name)
    again = compose("+task=repeat", config_dir="mine")
    relative = {split: f"{split}.csv" for split in ("train", "validation", "test")}
    there = compose(
        *[f"{key}={value}" for key, value in {**as_typed(carded), **prefixed(relative)}.items()]
    )
    assert run_path(again, "corpus") == run_path(there, "corpus")


def test_options_that_make_another_corpus_are_repeated_and_harmless_ones_are_not() -> None:
    options = ("dataset.on_empty=drop", "dataset.on_unlabeled=drop", "dataset.separator=;")
    config = compose("+task=classify", "dataset.train=t.csv", "author=Ada", *options)
    repeated = repeatable(config)
    assert repeated["dataset"] | {"text": None, "label": None} == {
        "train": "t.csv",
        "text": None,
        "label": None,
        "on_empty": "drop",
        "on_unlabeled": "drop",
        "separator": ";",
    }
    assert "author" not in repeated


def test_a_run_on_several_files_is_delivered_and_names_them(
    typed: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    files = [
        write_csv(tmp_path / name, make_rows(40, seed))
        for seed, name in enumerate(("old.csv", "new/more.csv"))
    ]
    words = [word for word in typed("run_dir=run") if not word.startswith("dataset.train=")]
    result = run(compose(*words, f"dataset.train=[{files[0]},{files[1]}]"))
    text = (result.model / "README.md").read_text()
    assert re.search(r"train:\n +- old\.csv\n +- more\.csv\n", text)
    assert str(tmp_path) not in text


def as_typed(carded: Carded) -> dict[str, str]:
    """The overrides of the fixture, with the checkpoint where one stands."""
    return {
        "+task": "classify",
        "checkpoint.name": Path(carded.config.checkpoint.name).name,
        "training.cpu": "true",
        "training.precision": "fp32",
        "strategy": "feature_extraction",
        "strategy.min_steps": "0",
        "evaluation.folds": "0",
        "strategy.epochs": "1",
        "evaluation.metrics": "[accuracy,f1,f1_macro,matthews,log_loss]",
    }


def prefixed(splits: dict[str, str]) -> dict[str, str]:
    """As keys of the dataset."""
    return {f"dataset.{split}": path for split, path in splits.items()}


def test_a_hub_dataset_and_the_licence_of_the_base_are_named(
    carded: Carded, checkpoints: dict[str, Path]
) -> None:
    config = compose("+task=topic", "strategy=full")
    config.checkpoint.name = "embedded:all-MiniLM-L6-v2"
    data = ModelCard(model_card(config, written(carded), carded.metrics)).data
    assert data.get("license") == "apache-2.0"
    assert data.get("base_model") == "sentence-transformers/all-MiniLM-L6-v2"
    assert data.get("datasets") == "fancyzhx/ag_news"
    local = shutil.copytree(checkpoints["bert"], "with_a_card")
    config.checkpoint.name = str(local)
    for head, licence in (("license: mit", "mit"), ("title: mine: second", None)):
        Path(local, "README.md").write_text(f"---\n{head}\n---\n# Tiny\n")
        data = ModelCard(model_card(config, written(carded), carded.metrics)).data
        assert data.get("license") == licence


def test_where_a_saved_dataset_lies_is_not_on_the_card(carded: Carded) -> None:
    config = compose("+task=topic", "strategy=full")
    Path("anna/private").mkdir(parents=True)
    config.dataset.name = str(Path("anna/private").resolve())
    text = model_card(config, written(carded), carded.metrics)
    assert "anna" not in text
    assert ModelCard(text).data.get("datasets") is None
    assert "local files" in text


@pytest.mark.slow
def test_strange_labels_cut_texts_and_a_missing_test_split_are_said(typed: Typed) -> None:
    names = {"positive": "a | b", "negative": "<script> `x`: - #"}
    file = write_csv(Path("strange.csv"), [(text, names[label]) for text, label in make_rows(60)])
    splits = (f"dataset.train={file}", f"dataset.validation={file}", "dataset.test=null")
    options = ("strategy=feature_extraction", "strategy.epochs=1", "tokenization.max_length=8")
    carded = finished(typed(*options, *splits))
    tables = [line for line in carded.text.splitlines() if line.startswith("| a \\| b |")]
    assert len(tables) == 1
    outside = re.sub("^```.*?^```", "", carded.text, flags=re.MULTILINE | re.DOTALL)
    assert "<script>" not in outside
    assert carded.card.data.eval_results
    cut = written(carded)["cut"]
    assert f"{cut['train']} of 60 (train), {cut['validation']} of 60 (validation)" in carded.text
    assert cut["train"] > 30
    assert "It reads 8 tokens of a text" in carded.text
    assert "these figures come from validation, on which choices were made, too" in carded.text


def test_the_card_names_the_columns_the_hyperparameters_and_what_is_known_of_the_base(
    carded: Carded,
) -> None:
    config = compose("+task=classify", "dataset.train=my.csv", "author=Ada Lovelace")
    config.dataset.text, config.dataset.text_pair = "body", "the answer"
    run_json = written(carded)
    text = model_card(config, run_json, carded.metrics)
    assert "--text body --text-pair 'the answer'" in text
    assert "| author | Ada Lovelace |" in text
    assert f"| date | {run_json['finished'][:10]} |" in text
    assert "| licence | apache-2.0 (of the base model) |" in text
    assert ModelCard(text).data.get("language") == "en"
    (stage,) = run_json["stages"]
    # A solved stage has no epochs and no learning rates; one that was trained names them.
    assert "| – | – | – | solved exactly |" in carded.text
    assert "batch size" not in carded.text
    trained = {**run_json, "stages": [{**stage, "steps": 7}]}
    stepped = model_card(carded.config, trained, carded.metrics)
    assert "| 1 | 5e-05 | 0.001 | 7 |" in stepped
    for row in ("| batch size | 16 texts |", "| precision | fp32 |", "| seed | 42 |"):
        assert row in stepped
    assert "| licence | not known" in carded.text
    assert "101 rows of local files" in carded.text
    assert "[{'label': 'negative', 'score': 0.9}]" in carded.text
    for title in ("Intended use", "Limits", "Results", "How to use it", "Training"):
        assert f"\n## {title}\n" in carded.text
    assert "\n\n\n" not in carded.text
