"""Pairs, several labels, scores and long documents: the same shape for every command."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import FILLING, NASTY, NICE, QUIETLY, THINGS, slow_but
from hypothesis import given
from hypothesis import strategies as st
from prepared_runs import Prepared, prepare
from scipy import special
from serving_process import served
from shaped_rows import claim_of, pairs, scores, shaped, some_words, write_rows
from sklearn import metrics as sk
from tiny_models import make_tokenizer
from tokenizers import processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
)

from nlp_transfer import Classifier, compose, run
from nlp_transfer.cli.main import main
from nlp_transfer.config.choices import LongText, WindowPooling
from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.evaluator import evaluate_split
from nlp_transfer.export.onnx import Exported, export_onnx, table
from nlp_transfer.export.onnx_parity import Questions
from nlp_transfer.export.verification import Claim, verify
from nlp_transfer.features.pooling import choose_pooled_layers
from nlp_transfer.inference import classifier
from nlp_transfer.models.loading import load_pretrained
from nlp_transfer.tokenization.batches import encode_texts
from nlp_transfer.tokenization.encoded import TrainingRows
from nlp_transfer.tokenization.encoding import encode
from nlp_transfer.tokenization.model_inputs import FEW_TOKENS, Pairs
from nlp_transfer.tokenization.windows import LongTextPolicy, Windows, spans
from nlp_transfer.training.optimization.batching import PlannedBatches
from nlp_transfer.utils.distributed import join

# Pairs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outspoken(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Path:
    """A checkpoint whose answers differ: as it is drawn, a tiny encoder hardly sees any order."""
    folder = tmp_path_factory.mktemp("outspoken")
    encoder = BertModel.from_pretrained(checkpoints["bert"])
    for weight in encoder.parameters():
        weight.data *= 10 if weight.dim() == 2 else 1
    encoder.save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoints["bert"]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def of_pairs(tmp_path_factory: pytest.TempPathFactory, outspoken: Path) -> Claim:
    """A classifier of pairs, trained for an epoch."""
    folder = tmp_path_factory.mktemp("pairs")
    typed = shaped(folder, outspoken, pairs, "dataset.text_pair=other")
    prepared = prepare([*typed, "strategy.epochs=1"], folder / "run")
    prepared.train()
    return claim_of(prepared, folder / "model")


def test_a_pair_is_two_segments_and_the_longer_one_is_cut_first(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    rows = [{"text": "film " * 30, "other": "book " * 4, "label": i} for i in (0, 1) * 3]
    file = write_rows(tmp_path / "rows.csv", rows)
    more = (f"dataset.train={file}", f"dataset.validation={file}", "dataset.text_pair=other")
    name = f"checkpoint.name={checkpoints['bert']}"
    longest = "tokenization.max_length=16"
    prepared = prepare(["+task=classify", name, *QUIETLY, *more, longest], tmp_path / "run")
    split = prepared.encoded.splits["train"]
    assert split.cut == len(rows)
    tokenizer = prepared.pretrained.tokenizer
    for row in range(len(rows)):
        words = tokenizer.convert_ids_to_tokens(split.inputs[row]["input_ids"])
        assert words == ["[CLS]", *["film"] * 9, "[SEP]", *["book"] * 4, "[SEP]"]
        assert split.inputs[row]["token_type_ids"].tolist() == [0] * 11 + [1] * 5


def test_swapping_the_two_texts_changes_the_answer(of_pairs: Claim) -> None:
    classifier, texts = Classifier.load(of_pairs.folder), of_pairs.texts
    straight = classifier.predict(texts.first, texts.second)
    swapped = classifier.predict(texts.second, texts.first)
    answers = [p.label for p in straight]
    assert answers == [of_pairs.labels[i] for i in of_pairs.logits.argmax(axis=1)]
    moved = [
        abs(a.probabilities["ruder"] - b.probabilities["ruder"])
        for a, b in zip(straight, swapped, strict=True)
    ]
    assert np.median(moved) > 1e-3


def test_a_model_of_pairs_wants_pairs_and_as_many_of_both(of_pairs: Claim) -> None:
    classifier = Classifier.load(of_pairs.folder)
    for texts, second, message in (
        (["one"], None, "needs both"),
        (["one", "two"], ["one"], "2 texts and 1 second"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            classifier.predict(texts, second)
        assert caught.value.code is ExitCode.DATA


@pytest.mark.parametrize(
    ("second", "message"),
    [(" ", "an empty second text.*line 2, row 1"), (None, "'other' is not a column")],
)
def test_a_second_text_that_is_not_there_is_an_error(
    tmp_path: Path, second: str | None, message: str
) -> None:
    rows = [{"text": "a", "label": label} | ({"other": second} if second else {}) for label in "ab"]
    file = str(write_rows(tmp_path / "rows.csv", rows))
    with pytest.raises(UserError, match=f"(?s){message}") as caught:
        load_corpus(DatasetConfig(train=file, validation=file, text_pair="other"), 0)
    assert caught.value.code is ExitCode.DATA


def test_the_second_text_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    prints = set()
    for second in ("left", "right"):
        rows = [{"text": "a", "other": second, "label": label} for label in "ab"]
        file = str(write_rows(tmp_path / "rows.csv", rows))
        config = DatasetConfig(train=file, validation=file, text_pair="other")
        prints.add(load_corpus(config, 0).fingerprint)
    assert len(prints) == 2


# Scores and several labels ------------------------------------------------------------------------


def several(rows: int) -> list[dict[str, Any]]:
    """Which of three kinds of words are in the text? Any of them, all, or none."""
    generator = random.Random(rows)
    kinds = {"nice": NICE, "nasty": NASTY, "thing": THINGS}
    made = []
    for i in range(rows):
        has = {name: (i >> bit) & 1 for bit, name in enumerate(kinds)}
        words = [generator.choice(kinds[name]) for name in kinds if has[name]]
        made.append({"text": some_words(generator, *words), **has})
    return made


def trained(
    checkpoint: Path, folder: Path, rows: Callable[[int], Any], *more: str
) -> tuple[Prepared, Claim]:
    prepared = prepare(shaped(folder, checkpoint, rows, *more), folder / "run")
    prepared.train()
    return prepared, claim_of(prepared, folder / "model")


OF_THREE = "dataset.label=[nice,nasty,thing]"
SEVERAL = (OF_THREE, "strategy.learning_rate=1e-3")


@pytest.fixture(scope="module")
def of_scores(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Any:
    """A regression that has learned something."""
    return trained(
        checkpoints["bert"], tmp_path_factory.mktemp("scores"), scores, "strategy.epochs=15"
    )


@pytest.fixture(scope="module")
def of_several(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Any:
    """A classifier into any of three labels that has learned something."""
    folder = tmp_path_factory.mktemp("several")
    fast = ("strategy.learning_rate=5e-3", "strategy.allow_destructive_rate=true")
    longer = ("strategy.epochs=20", "training.batch_size=16", *fast)
    settled = ("checkpoint.dropout=0", "seed=1")  # some seeds stay with one label, of two
    return trained(checkpoints["bert"], folder, several, OF_THREE, *longer, *settled)


def test_a_regression_learns_scores_and_says_them_as_they_are(of_scores: Any) -> None:
    prepared, claim = of_scores
    references = prepared.corpus.references("validation")
    figures = prepared.metrics.compute(claim.logits, references)
    assert set(figures) == {"pearson", "spearman", "mse"}
    assert figures["pearson"] == pytest.approx(np.corrcoef(claim.logits[:, 0], references)[0, 1])
    assert figures["mse"] == pytest.approx(np.mean((claim.logits[:, 0] - references) ** 2))
    assert figures["pearson"] > 0.6
    config = AutoModelForSequenceClassification.from_pretrained(claim.folder).config
    assert (config.problem_type, config.num_labels) == ("regression", 1)
    answers = Classifier.load(claim.folder).predict(claim.texts)
    assert [p.label for p in answers] == ["score"] * len(answers)
    np.testing.assert_allclose([p.score for p in answers], claim.logits[:, 0], atol=1e-5)
    assert evaluate_split(claim.logits, references, prepared.metrics, ("score",)).per_class == []


def test_several_labels_are_learned_each_for_itself(of_several: Any) -> None:
    prepared, claim = of_several
    references = prepared.corpus.references("validation")
    probabilities = special.expit(claim.logits.astype(float))
    figures = prepared.metrics.compute(claim.logits, references)
    assert figures["f1_macro"] == pytest.approx(
        sk.f1_score(references, probabilities > 0.5, average="macro", zero_division=0.0)
    )
    assert figures["ranking_precision"] == pytest.approx(
        sk.label_ranking_average_precision_score(references, probabilities)
    )
    assert figures["average_precision"] == pytest.approx(
        sk.average_precision_score(references, probabilities, average="macro")
    )
    assert figures["f1_micro"] > 0.7
    config = AutoModelForSequenceClassification.from_pretrained(claim.folder).config
    assert config.problem_type == "multi_label_classification"
    assert config.id2label == {0: "nice", 1: "nasty", 2: "thing"}
    for answer, row in zip(
        Classifier.load(claim.folder).predict(claim.texts), probabilities, strict=True
    ):
        assert answer.labels == tuple(n for n, p in zip(claim.labels, row, strict=True) if p > 0.5)
        np.testing.assert_allclose(list(answer.probabilities.values()), row, atol=1e-5)
    table = evaluate_split(claim.logits, references, prepared.metrics, claim.labels).per_class
    assert [row["support"] for row in table] == references.sum(axis=0).tolist()


@pytest.mark.parametrize(
    ("rows", "more"),
    [
        (scores, ()),
        (several, (*SEVERAL, "training.class_weights={nice: 3, nasty: 1, thing: 1}")),
        (several, (*SEVERAL, "training.label_smoothing=0.2")),
    ],
)
def test_accumulation_changes_no_weights_whatever_the_problem(
    checkpoints: dict[str, Path], tmp_path: Path, rows: Callable[[int], Any], more: tuple[str, ...]
) -> None:
    weights = []
    for micro_batch in (16, 4):
        often = ("strategy.epochs=1", "checkpoint.dropout=0", "strategy.learning_rate=5e-4")
        typed = shaped(tmp_path, checkpoints["bert"], rows, *more, *often)
        prepared = prepare([*typed, f"training.micro_batch_size={micro_batch}"], tmp_path / "run")
        prepared.train()
        weights.append(prepared.weights())
    one, four = weights
    assert max(float((one[n].float() - four[n].float()).abs().max()) for n in one) < 1e-6


@pytest.mark.parametrize(("rows", "more", "least"), [(scores, (), 0.8), (several, SEVERAL, 0.6)])
def test_the_head_is_solved_for_every_problem(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    rows: Callable[[int], Any],
    more: tuple[str, ...],
    least: float,
) -> None:
    typed = shaped(tmp_path, checkpoints["bert"], rows, *more)
    solved = [o for o in typed if not o.startswith("strategy")] + ["strategy=feature_extraction"]
    prepared = prepare([*solved, "checkpoint.pooling=mean"], tmp_path / "run")
    history = prepared.train()[0]
    assert history.steps == 0
    assert history.best > least
    last = prepared.pretrained.structure.layers
    (chosen,) = choose_pooled_layers(
        prepared.pretrained, prepared.encoded, 0, range(last, last + 1)
    )
    assert chosen == {"layer": last, "pooling": "mean"}


@pytest.mark.slow
def test_epochs_whose_metric_has_no_value_are_never_the_best(
    checkpoints: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The answers to one text are all the same, and correlate with nothing.
    words = shaped(tmp_path, checkpoints["bert"], scores)
    rows = [{"text": "warm soup", "label": i + 0.5} for i in range(8)]
    write_rows(tmp_path / "validation.csv", rows[:1] * 8)
    with pytest.raises(UserError, match="it has one score alone"):
        run(compose(*words, "evaluation.best=pearson"))
    write_rows(tmp_path / "validation.csv", rows)
    others = [word for word in words if not word.startswith("strategy=")]
    more = ("strategy=probe_then_full", "strategy.epochs=6", "training.early_stopping=2")
    with caplog.at_level("INFO", logger="nlp_transfer"):
        result = run(compose(*others, *more))
    assert np.isnan(result.best)
    assert result.metrics["validation"]["metrics"]["mse"] > 0
    stages = json.loads((result.folder / "run.json").read_text())["stages"]
    assert [stage["best"] for stage in stages] == [None, None]
    looks = [entry for entry in stages[1]["log"] if "eval_pearson" in entry]
    assert [look["eval_pearson"] for look in looks] == [None] * 3
    assert "pearson was undefined on validation: the last weights are kept" in caplog.text


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        (scores, ("training.class_weights=balanced",), "nothing to weigh: the rows have scores"),
        (scores, ("training.label_smoothing=0.1",), "is for labels"),
        (scores, ("evaluation.metrics=[accuracy]",), "pearson, spearman"),
        (several, (*SEVERAL, "evaluation.metrics=[pearson]"), "f1_micro"),
        (several, (*SEVERAL, "training.class_weights={nice: 1}"), "each of nice, nasty, thing"),
    ],
)
def test_what_does_not_fit_the_problem_is_refused_before_training(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    rows: Callable[[int], Any],
    more: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run(compose(*shaped(tmp_path, checkpoints["bert"], rows, *more)))
    assert caught.value.code is ExitCode.CONFIG
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("dataset.label=[]", "dataset.label"),
        ("dataset.problem=several", "dataset.problem"),
        ("training.class_weights=heavy", "none, balanced, sqrt"),
        ("training.class_weights={spam: -3}", "greater than 0"),
        ("training.class_weights={spam: true}", "greater than 0"),
        ("dataset.delimiter=''", "dataset.delimiter"),
        ("dataset.label_names={a: b}", "nothing to name"),
    ],
)
def test_impossible_shapes_are_refused(typed: str, message: str) -> None:
    more = ["dataset.problem=regression"] if "names" in typed else []
    with pytest.raises(UserError, match=message) as caught:
        compose("+task=classify", "dataset.train=rows.csv", typed, *more)
    assert caught.value.code is ExitCode.CONFIG


# Long documents -----------------------------------------------------------------------------------


def long_texts(rows: int) -> list[dict[str, Any]]:
    """From a few words to a hundred; what matters stands anywhere."""
    generator = random.Random(rows)
    made = []
    for i in range(rows):
        text = [generator.choice(FILLING) for _ in range(generator.choice([5, 20, 50, 100]))]
        for word in generator.choices(NICE if i % 2 else NASTY, k=1 + len(text) // 10):
            text.insert(generator.randint(0, len(text)), word)
        made.append({"text": " ".join(text), "label": "nice" if i % 2 else "nasty"})
    return made


WINDOWS = (
    "tokenization.long_text=windows",
    "tokenization.max_length=24",
    "tokenization.stride=6",
)


@pytest.fixture(scope="module")
def of_windows(tmp_path_factory: pytest.TempPathFactory, outspoken: Path) -> Any:
    """A classifier of documents that are longer than it reads."""
    folder = tmp_path_factory.mktemp("windows")
    more = (*WINDOWS, "tokenization.window_pooling=max", "strategy.epochs=1")
    return trained(outspoken, folder, long_texts, *more)


@pytest.fixture(scope="module")
def of_ends(tmp_path_factory: pytest.TempPathFactory, outspoken: Path) -> Any:
    """A classifier that reads the beginning and the end."""
    folder = tmp_path_factory.mktemp("ends")
    more = ("tokenization.long_text=head_tail", "tokenization.max_length=24")
    return trained(outspoken, folder, long_texts, *more, "strategy.epochs=1")


@given(st.integers(0, 300), st.integers(1, 40), st.data())
def test_windows_hold_every_token_in_order_and_share_the_stride(
    tokens: int, room: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(0, room - 1))
    windows = spans(tokens, room, stride)
    joined = list(range(*windows[0]))
    for (start, end), (_, before) in zip(windows[1:], windows, strict=False):
        assert before - start == stride
        joined += range(before, end)
    assert joined == list(range(tokens))
    assert all(end - start == room for start, end in windows[:-1])
    assert windows[-1][1] - windows[-1][0] <= room


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_joining_windows_is_the_mean_or_maximum_of_each_document(sizes: list[int]) -> None:
    documents = np.repeat(np.arange(len(sizes)), sizes)
    values = np.random.default_rng(0).normal(size=(len(documents), 3)).astype(np.float32)
    for pooling, of in ((WindowPooling.mean, np.mean), (WindowPooling.max, np.max)):
        joined = Windows(documents, pooling).join(values)
        expected = [of(values[documents == d], axis=0) for d in range(len(sizes))]
        np.testing.assert_allclose(joined, expected, rtol=1e-6, atol=1e-7)


def test_windows_are_those_of_the_library(of_windows: Any) -> None:
    prepared, _ = of_windows
    split, texts = prepared.encoded.splits["train"], prepared.corpus.splits["train"]["text"]
    expected = prepared.pretrained.tokenizer(
        list(texts), truncation=True, max_length=24, stride=6, return_overflowing_tokens=True
    )
    assert expected["overflow_to_sample_mapping"] == split.inputs.documents.tolist()
    assert max(np.bincount(split.inputs.documents)) > 4
    assert split.cut == 0
    for row in range(len(split.inputs)):
        for name, tokens in split.inputs[row].items():
            assert tokens.tolist() == expected[name][row]


def test_a_document_has_one_answer_from_every_command(of_windows: Any) -> None:
    prepared, claim = of_windows
    texts, model = claim.texts, prepared.pretrained.model.eval()
    tokenizer = prepared.pretrained.tokenizer
    assert claim.logits.shape == (len(texts), 2)
    for text, logits in zip(texts[:8], claim.logits, strict=False):
        more = {"truncation": True, "max_length": 24, "stride": 6, "padding": True}
        rows = tokenizer(text, return_overflowing_tokens=True, return_tensors="pt", **more)
        rows.pop("overflow_to_sample_mapping")
        with torch.no_grad():
            by_hand = model(**rows).logits.amax(0).numpy()
        np.testing.assert_allclose(logits, by_hand, atol=1e-5)
    answers = Classifier.load(claim.folder).predict(texts)
    probabilities = np.array([list(answer.probabilities.values()) for answer in answers])
    np.testing.assert_allclose(probabilities, special.softmax(claim.logits, axis=1), atol=1e-5)
    # All of a document is read, not only where it begins.
    begun = Classifier.load(claim.folder)
    begun.engine.long_text = LongTextPolicy()
    parted = [a.score - b.score for a, b in zip(begun.predict(texts), answers, strict=True)]
    assert np.abs(parted).max() > 1e-3


def test_the_beginning_and_the_end_are_kept(of_ends: Any) -> None:
    prepared, claim = of_ends
    split, texts = prepared.encoded.splits["train"], prepared.corpus.splits["train"]["text"]
    for row, text in enumerate(texts):
        whole = prepared.pretrained.tokenizer(text)["input_ids"]
        actual = split.inputs[row]["input_ids"].tolist()
        assert actual == (whole if len(whole) <= 24 else [*whole[:12], *whole[-12:]])
    assert split.cut == sum(len(prepared.pretrained.tokenizer(t)["input_ids"]) > 24 for t in texts)
    answers = Classifier.load(claim.folder).predict(claim.texts)
    actual = np.array([list(answer.probabilities.values()) for answer in answers])
    np.testing.assert_allclose(actual, special.softmax(claim.logits, axis=1), atol=1e-5)


@pytest.mark.parametrize(("world_size", "accumulation"), [(2, 1), (2, 2), (3, 1)])
def test_all_windows_of_a_batch_are_done_by_some_process(
    of_windows: Any, world_size: int, accumulation: int
) -> None:
    inputs = of_windows[0].encoded.splits["train"].inputs
    alone = list(PlannedBatches(inputs.lengths, 16, 0, documents=inputs.documents))
    shared: list[list[int]] = [[] for _ in alone]
    for rank in range(world_size):
        batches = PlannedBatches(
            inputs.lengths,
            16,
            0,
            accumulation=accumulation,
            rank=rank,
            world_size=world_size,
            documents=inputs.documents,
        )
        for i, micro in enumerate(batches):
            shared[i // accumulation] += [draw.row for draw in micro if draw.counts]
    assert [sorted(rows) for rows in shared] == [sorted(draw.row for draw in b) for b in alone]


def test_each_window_counts_the_share_of_its_document(of_windows: Any) -> None:
    prepared, _ = of_windows
    split = prepared.encoded.splits["train"]
    rows = TrainingRows(split, prepared.encoded.collator)
    assert len(rows) == 96
    windows = np.bincount(split.inputs.documents)
    batches = PlannedBatches(split.inputs.lengths, 16, 0, documents=split.inputs.documents)
    shares = np.zeros(96)
    for batch in batches:
        labels = rows.__getitems__(batch)["labels"].numpy()
        for (row, *_), (count, answer) in zip(batch, labels, strict=True):
            document = split.inputs.documents[row]
            assert count == pytest.approx(1 / windows[document])
            assert answer == split.labels[document]
            shares[document] += count
        whole = {split.inputs.documents[draw.row] for draw in batch}
        assert len(whole) == 16
        assert labels[:, 0].sum() == pytest.approx(16)
    np.testing.assert_allclose(shares, 1, atol=1e-6)


@pytest.mark.parametrize("stage", slow_but(["full"], ["full", "top_layers"]))
def test_a_documents_windows_weigh_the_same_whatever_the_micro_batches_and_stores(
    checkpoints: dict[str, Path], tmp_path: Path, stage: str
) -> None:
    weights = []
    for more in (
        "training.micro_batch_size=16",
        "training.micro_batch_size=4",
        "features.cache=off",
    ):
        typed = shaped(tmp_path, checkpoints["bert"], long_texts, *WINDOWS, more)
        typed = [o for o in typed if not o.startswith("strategy")]
        typed += [f"strategy={stage}", "strategy.epochs=2", "checkpoint.dropout=0"]
        typed += ["strategy.top_layers=1"] if stage == "top_layers" else []
        prepared = prepare(typed, tmp_path / "run")
        prepared.train()
        weights.append(prepared.weights())
    for others in weights[1:]:
        moved = [float((weights[0][n].float() - others[n].float()).abs().max()) for n in others]
        assert max(moved) < 1e-5


def test_the_head_is_solved_on_documents_not_on_windows(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    typed = shaped(tmp_path, checkpoints["bert"], long_texts, *WINDOWS)
    typed = [o for o in typed if not o.startswith("strategy")] + ["strategy=feature_extraction"]
    prepared = prepare([*typed, "checkpoint.pooling=mean"], tmp_path / "run")
    assert prepared.train()[0].best > 0.8


def test_the_poolings_are_compared_on_documents_not_on_windows(
    checkpoints: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for more in (WINDOWS, ("tokenization.max_length=24",)):
        typed = shaped(tmp_path, checkpoints["bert"], long_texts, *more)
        prepared = prepare(typed, tmp_path / "run")
        train = prepared.encoded.splits["train"]
        assert (len(train.inputs) > len(train.labels)) == (more == WINDOWS)
        with caplog.at_level("INFO", logger="nlp_transfer"):
            choose_pooled_layers(prepared.pretrained, prepared.encoded, 0, range(1, 3))
        assert f"leave-one-out on {len(train.labels)} rows" in caplog.messages[-1]


def test_tokens_of_windows_are_found_again(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    typed = shaped(tmp_path, checkpoints["bert"], long_texts, *WINDOWS)
    prepared = prepare(typed, tmp_path / "run")
    alone = join(prepared.config.training)
    arguments = (prepared.corpus, prepared.pretrained.tokenizer, 64, prepared.config.tokenization)
    for _ in range(2):
        inputs = encode(*arguments, alone).splits["train"].inputs
        expected = prepared.encoded.splits["train"].inputs
        assert inputs.documents.tolist() == expected.documents.tolist()
        assert inputs.offsets.tolist() == expected.offsets.tolist()
        assert inputs.flat["input_ids"].tolist() == expected.flat["input_ids"].tolist()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("tokenization.stride=5",), "needs tokenization.long_text=windows"),
        (("tokenization.window_pooling=max",), "needs tokenization.long_text=windows"),
        (("tokenization.long_text=windows", "dataset.text_pair=other"), "single texts"),
        (("tokenization.long_text=windows", "tokenization.stride=-1"), "not negative"),
    ],
)
def test_impossible_windows_are_refused(more: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        compose("+task=classify", "dataset.train=rows.csv", *more)
    assert caught.value.code is ExitCode.CONFIG


def test_windows_that_would_not_come_forward_are_refused(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    typed = shaped(tmp_path, checkpoints["bert"], long_texts, *WINDOWS, "tokenization.stride=22")
    with pytest.raises(UserError, match="must be less than the 22 tokens") as caught:
        prepare(typed, tmp_path / "run")
    assert caught.value.code is ExitCode.CONFIG


# Decoders -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 as the Hub has it: without a padding token."""
    folder = tmp_path_factory.mktemp("gpt2")
    inner = make_tokenizer("bert").backend_tokenizer
    inner.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    special_tokens = {"unk_token": "[UNK]", "eos_token": "[SEP]", "model_max_length": 64}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **special_tokens)
    assert tokenizer.pad_token is None
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "initializer_range": 0.2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.eos_token_id}
    config = GPT2Config(vocab_size=len(tokenizer), **shape, **ends)
    GPT2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def of_decoder(tmp_path_factory: pytest.TempPathFactory, decoder: Path) -> Any:
    """A decoder that has learned to classify."""
    folder = tmp_path_factory.mktemp("decoder")
    return trained(decoder, folder, long_texts, "strategy.epochs=2", "checkpoint.dropout=0")


def test_a_decoder_whose_head_has_no_bias_learns_scores_by_their_size(
    decoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="nlp_transfer"):
        more = ("strategy.epochs=12", "training.batch_size=8", "evaluation.best=mse")
        prepared, claim = trained(decoder, tmp_path, scores, *more)
    assert "(score - 0) / 3.45" in caplog.text
    references = prepared.corpus.references("validation")
    assert np.square(claim.logits[:, 0] - references).mean() < references.var()


def test_a_decoder_answers_the_same_however_its_batches_are_padded(of_decoder: Any) -> None:
    prepared, claim = of_decoder
    tokenizer, model = prepared.pretrained.tokenizer, prepared.pretrained.model.eval()
    assert model.config.pad_token_id == tokenizer.pad_token_id == tokenizer.eos_token_id
    assert np.ptp(claim.logits, axis=0).min() > 1e-2
    for text, logits in zip(claim.texts, claim.logits, strict=True):
        ids = tokenizer(text, truncation=True, return_tensors="pt")["input_ids"]
        n = ids.shape[1]
        with torch.no_grad():
            alone = model(input_ids=ids).logits[0].numpy()
            # From the left: positions have to be said, or they would count the padding.
            padded_left = torch.nn.functional.pad(ids, (5, 0), value=tokenizer.pad_token_id)
            mask = torch.cat([torch.zeros(1, 5), torch.ones(1, n)], dim=1).long()
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            answer = model(
                input_ids=padded_left, attention_mask=mask, position_ids=positions
            ).logits[0]
        np.testing.assert_allclose(logits, alone, atol=1e-5)
        np.testing.assert_allclose(logits, answer.numpy(), atol=1e-5)


def test_a_decoder_that_cannot_be_split_runs_whole(
    decoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    typed = [o for o in shaped(tmp_path, decoder, long_texts) if not o.startswith("strategy")]
    prepared = prepare([*typed, "strategy=top_layers", "strategy.top_layers=1"], tmp_path / "run")
    with caplog.at_level("INFO", logger="nlp_transfer"):
        assert prepared.train()[0].steps > 0
    assert any("runs through the whole model" in message for message in caplog.messages)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T5: two layers that read, three that answer."""
    folder = tmp_path_factory.mktemp("t5")
    inner = make_tokenizer("roberta").backend_tokenizer
    end = ("</s>", inner.token_to_id("</s>"))
    template = {"single": "$A </s>", "pair": "$A </s> $B </s>", "special_tokens": [end]}
    inner.post_processor = processors.TemplateProcessing(**template)
    special_tokens = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=64, **special_tokens
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_heads": 2, "num_layers": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    ends["decoder_start_token_id"] = tokenizer.pad_token_id
    config = T5Config(vocab_size=len(tokenizer), num_decoder_layers=3, **shape, **ends)
    T5Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def of_both(tmp_path_factory: pytest.TempPathFactory, both: Path) -> Any:
    """A T5 that has learned to classify documents in windows."""
    folder = tmp_path_factory.mktemp("of_t5")
    more = ("strategy.epochs=2", "checkpoint.dropout=0")
    return trained(both, folder, long_texts, *WINDOWS, *more)


def test_a_decoder_stands_above_the_encoder_it_reads(both: Path) -> None:
    pretrained = load_pretrained(CheckpointConfig(str(both)), ("a", "b"), 0)
    structure = pretrained.structure
    depths = {name: structure.depth(name) for name, _ in pretrained.model.named_parameters()}
    assert structure.layers == 5
    assert {depth for name, depth in depths.items() if ".encoder.block.1." in name} == {2}
    assert {depth for name, depth in depths.items() if ".decoder.block.0." in name} == {3}
    assert {depth for name, depth in depths.items() if "classification_head" in name} == {6}
    assert depths["transformer.shared.weight"] == 0


def test_t5_answers_at_the_end_of_each_text_however_it_is_cut_and_padded(of_both: Any) -> None:
    prepared, claim = of_both
    tokenizer, model = prepared.pretrained.tokenizer, prepared.pretrained.model.eval()
    split, end = prepared.encoded.splits["train"], tokenizer.eos_token_id
    assert len(split.inputs) > len(split.labels)
    for row in range(len(split.inputs)):
        assert np.flatnonzero(split.inputs[row]["input_ids"] == end).tolist() == [
            split.inputs.lengths[row] - 1
        ]
    assert np.ptp(claim.logits, axis=0).min() > 1e-3
    answers = Classifier.load(claim.folder)
    whole = answers.probabilities(claim.texts)
    alone = np.concatenate([answers.probabilities([text]) for text in claim.texts])
    np.testing.assert_allclose(whole, alone, atol=1e-5)
    # What looks like the end is none.
    assert len(answers.predict(["lovely </s> film", "a film", "</s>"])) == 3
    for long_text in (LongTextPolicy(), LongTextPolicy(LongText.head_tail)):
        inputs = encode_texts(["film " * 50, "a film"], tokenizer, 12, long_text)
        assert [inputs[row]["input_ids"][-1] for row in range(2)] == [end, end]
    assert model.config.is_encoder_decoder


@pytest.mark.slow
def test_what_looks_like_the_end_of_a_text_is_none_by_onnx_neither(of_both: Any) -> None:
    folder = of_both[1].folder
    odd = ["lovely </s> film", "a film", "</s>", "a <pad> film"]
    export_onnx(folder, Questions(odd, None, "here"), threads=1)
    probabilities = [
        Classifier.load(folder, by, threads=1).probabilities(odd) for by in ("torch", "onnx")
    ]
    np.testing.assert_allclose(*probabilities, atol=1e-5)


@pytest.mark.slow
def test_the_top_layer_of_t5_is_its_decoders(
    both: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    typed = [o for o in shaped(tmp_path, both, long_texts) if not o.startswith("strategy")]
    prepared = prepare([*typed, "strategy=top_layers", "strategy.top_layers=1"], tmp_path / "run")
    before = prepared.weights()
    with caplog.at_level("INFO", logger="nlp_transfer"):
        prepared.train()
    assert any("runs through the whole model" in message for message in caplog.messages)
    changed = {n for n, p in prepared.weights().items() if not torch.equal(p, before[n])}
    assert changed
    assert all("decoder.block.2." in name or "classification_head" in name for name in changed)


def test_what_t5_cannot_is_refused(both: Path, tmp_path: Path) -> None:
    ended = [{"text": f"a film {'</s>' * (i == 5)}", "label": "ab"[i % 2]} for i in range(40)]
    with pytest.raises(UserError, match="1 texts of train contain '</s>'") as refusal:
        prepare(shaped(tmp_path, both, lambda _: ended), tmp_path / "run")
    assert refusal.value.code is ExitCode.DATA
    with pytest.raises(UserError, match="checkpoint.pooling=mean is not possible for t5"):
        prepare([*shaped(tmp_path, both, scores), "checkpoint.pooling=mean"], tmp_path / "run")
    folder = Path(shutil.copytree(both, tmp_path / "endless"))
    inner = AutoTokenizer.from_pretrained(both).backend_tokenizer
    inner.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    special_tokens = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **special_tokens).save_pretrained(folder)
    with pytest.raises(UserError, match="answers at the token that ends a text") as refusal:
        load_pretrained(CheckpointConfig(str(folder)), ("a", "b"), 0)
    assert refusal.value.code is ExitCode.CHECKPOINT


# Every command ------------------------------------------------------------------------------------


def test_every_shape_is_answered_the_same_by_a_fresh_process(
    of_pairs: Claim,
    of_scores: Any,
    of_several: Any,
    of_windows: Any,
    of_ends: Any,
    of_decoder: Any,
    of_both: Any,
) -> None:
    claims = (of_scores, of_several, of_windows, of_ends, of_decoder, of_both)
    learned = [claim for _, claim in claims]
    assert max(verify([of_pairs, *learned])) <= 5e-5


class Shipped(dict[str, tuple[Claim, Exported]]):
    """Shapes with ONNX beside torch, some with int8, each exported when first asked for."""

    def __init__(self, ask: Callable[[str], Any]) -> None:
        super().__init__()
        self.ask = ask

    def __missing__(self, shape: str) -> tuple[Claim, Exported]:
        made = self.ask(f"of_{shape}")
        prepared, claim = (None, made) if shape == "pairs" else made
        first, second = texts_of_claim(claim)
        references = prepared.corpus.references("validation") if shape in INT8 else None
        questions = Questions(first, references, "here", second)
        exported = export_onnx(claim.folder, questions, int8=shape in INT8, force=True, threads=1)
        self[shape] = (claim, exported)
        return self[shape]


@pytest.fixture(scope="module")
def shipped(request: pytest.FixtureRequest) -> Shipped:
    return Shipped(request.getfixturevalue)


SHAPES = ("pairs", "scores", "several", "windows")
INT8 = ("scores", "several")
QUICK_SHAPES = ("windows",)


def texts_of_claim(claim: Claim) -> tuple[list[str], list[str] | None]:
    """Texts, and of pairs the second ones."""
    texts = claim.texts
    return (texts.first, texts.second) if isinstance(texts, Pairs) else (texts, None)


@pytest.mark.parametrize("shape", slow_but(QUICK_SHAPES, SHAPES))
def test_onnx_answers_every_shape_as_torch_does(
    shape: str, shipped: dict[str, tuple[Claim, Exported]]
) -> None:
    claim, exported = shipped[shape]
    texts = texts_of_claim(claim)
    answers = {b: Classifier.load(claim.folder, b, threads=1) for b in ("torch", "onnx")}
    expected = claim.problem.probabilities(claim.logits)
    for by in answers.values():
        probabilities = by.probabilities(*texts)
        np.testing.assert_allclose(
            probabilities, expected, atol=1e-5 * max(1, np.abs(expected).max())
        )
    assert exported.measured["onnx"].agreement == pytest.approx(1)
    if shape == "pairs":
        with pytest.raises(UserError, match="needs both"):
            answers["onnx"].predict(["one"])


def test_a_folder_of_pairs_opens_as_a_cross_encoder(of_pairs: Claim) -> None:
    from sentence_transformers import CrossEncoder  # seconds, which only this test waits for

    encoder = CrossEncoder(str(of_pairs.folder), device="cpu")
    texts = list(zip(of_pairs.texts.first, of_pairs.texts.second, strict=True))
    probabilities = encoder.predict(texts, apply_softmax=True, show_progress_bar=False)
    expected = special.softmax(of_pairs.logits, axis=1)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert encoder.model.config.label2id == {n: i for i, n in enumerate(of_pairs.labels)}


@pytest.mark.parametrize("shape", slow_but(["several"], INT8))
def test_int8_is_measured_by_what_its_shape_answers(
    shape: str, shipped: dict[str, tuple[Claim, Exported]]
) -> None:
    claim, exported = shipped[shape]
    expected, int8 = claim.problem.probabilities(claim.logits), exported.measured["int8"]
    by_int8 = Classifier.load(claim.folder, "int8", threads=1)
    probabilities = by_int8.probabilities(claim.texts)
    assert (
        probabilities[:3] == by_int8.probabilities(claim.texts[:3])
    ).all()  # whoever else is there
    if shape == "scores":
        correlation = np.corrcoef(probabilities[:, 0], expected[:, 0])[0, 1]
        assert int8.agreement == pytest.approx(correlation, abs=1e-3)
        assert "correlation" in table(exported)
        assert "pearson" in table(exported)
    else:
        assert int8.agreement == ((probabilities > 0.5) == (expected > 0.5)).mean()
        assert "f1_micro" in table(exported)
    assert exported.measured["onnx"].worth == pytest.approx(
        exported.measured["torch"].worth, abs=2e-3
    )


def test_the_beginning_and_the_end_are_kept_by_onnx_too(
    shipped: dict[str, tuple[Claim, Exported]],
) -> None:
    claim, _ = shipped["windows"]
    engines = [Classifier.load(claim.folder, backend).engine for backend in ("torch", "onnx")]
    rows = []
    for engine in engines:
        engine.long_text = LongTextPolicy(LongText.head_tail)
        rows.append(engine.encode(texts_of_claim(claim)[0], None))
    assert rows[0].offsets.tolist() == rows[1].offsets.tolist()
    for name, flat in rows[1].flat.items():
        assert flat.tolist() == rows[0].flat[name].tolist()


def typed_into_a_table(claim: Claim, *typed: str, backend: str = "onnx") -> None:
    """The texts as a table, answered by a model."""
    first, second = texts_of_claim(claim)
    more = [{}] * len(first) if second is None else [{"other": text} for text in second]
    rows = [{"text": text} | other for text, other in zip(first, more, strict=True)]
    write_rows(Path("texts.csv"), [*rows, dict.fromkeys(rows[0], "")])
    pair = () if second is None else ("--text-pair", "other")
    arguments = ("--file", "texts.csv", "--text", "text", "--backend", backend, "--threads", "1")
    main(["predict", str(claim.folder), *arguments, *pair, *typed])


@pytest.mark.parametrize("shape", slow_but(QUICK_SHAPES, SHAPES))
def test_a_table_gets_the_columns_of_its_shape(
    shape: str, shipped: dict[str, tuple[Claim, Exported]]
) -> None:
    claim, _ = shipped[shape]
    expected = Classifier.load(claim.folder).predict(*texts_of_claim(claim))
    probabilities = () if shape == "scores" else ("--probabilities",)
    typed_into_a_table(claim, "--out", "answers.parquet", *probabilities)
    table = pq.read_table("answers.parquet")
    columns = {"scores": ["score"], "several": ["labels"]}.get(shape, ["label", "score"])
    columns += [f"probability_{label}" for label in claim.labels] if probabilities else []
    assert [name for name in table.column_names if name not in ("text", "other")] == columns
    *answered, blank = table.to_pylist()
    assert [blank[name] for name in columns] == [None] * len(columns)
    for row, answer in zip(answered, expected, strict=True):
        if shape == "several":
            assert row["labels"] == list(answer.labels)
        else:
            assert row["score"] == pytest.approx(answer.score, abs=1e-4)
            assert row.get("label", answer.label) == answer.label
        for label in claim.labels if probabilities else ():
            assert row[f"probability_{label}"] == pytest.approx(
                answer.probabilities[label], abs=1e-5
            )


def test_several_labels_in_one_cell_are_joined_as_they_can_be_read_again(
    of_several: Any, of_scores: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = of_several[1]
    expected = [answer.labels for answer in Classifier.load(claim.folder).predict(claim.texts)]
    assert max(map(len, expected)) > 1
    for delimiter, more in (("|", ()), ("; ", ("--delimiter", "; "))):
        typed_into_a_table(claim, "--out", "answers.csv", "--force", *more, backend="torch")
        with Path("answers.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[:-1]
        assert [row["labels"] for row in rows] == [delimiter.join(names) for names in expected]
    for refused, message, more in (
        (claim, "'nice' holds the --delimiter 'i'", ("--delimiter", "i")),
        (of_scores[1], "no --probabilities", ("--probabilities",)),
    ):
        with pytest.raises(SystemExit) as caught:
            typed_into_a_table(refused, "--out", "other.csv", *more, backend="torch")
        assert caught.value.code == ExitCode.CONFIG
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("shape", slow_but(QUICK_SHAPES, SHAPES))
def test_a_server_answers_every_shape_without_torch(
    shape: str, shipped: dict[str, tuple[Claim, Exported]]
) -> None:
    claim, _ = shipped[shape]
    first, second = texts_of_claim(claim)
    expected = Classifier.load(claim.folder).predict(first[:4], second and second[:4])
    body = {"texts": first[:4]} | ({} if second is None else {"text_pairs": second[:4]})
    with served(claim.folder) as server:
        status, reply = server.ask("/classify", body)
        model, api = server.ask("/model")[1], server.ask("/openapi.json")[1]
        assert "torch" not in Path(f"/proc/{server.process.pid}/maps").read_text()
    assert status == 200, reply
    fields = {"scores": {"score"}, "several": {"labels", "probabilities"}}
    names = fields.get(shape, {"label", "score", "probabilities"})
    assert set(api["components"]["schemas"]["Answer"]["properties"]) == names
    assert (model["problem"], model["labels"]) == (claim.problem.name, list(claim.labels))
    assert model["paired"] == (shape == "pairs")
    for prediction, answer in zip(reply["predictions"], expected, strict=True):
        assert set(prediction) == names
        assert prediction.get("labels", list(answer.labels)) == list(answer.labels)
        assert prediction.get("label", answer.label) == answer.label
        assert prediction.get("score", answer.score) == pytest.approx(answer.score, abs=1e-4)
        if "probabilities" in names:
            assert prediction["probabilities"] == pytest.approx(answer.probabilities, abs=1e-5)


def test_the_windows_of_a_long_document_run_a_few_at_a_time(
    shipped: dict[str, tuple[Claim, Exported]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shipped["windows"][0].folder
    texts = ["lovely film " * 10_000, "lovely film"]
    expected = Classifier.load(folder).probabilities(texts)
    by_onnx, sizes = Classifier.load(folder, "onnx", threads=1), []
    run_really = by_onnx.engine.run

    def watched(batch: dict[str, np.ndarray]) -> np.ndarray:
        sizes.append(batch["input_ids"].size)
        return run_really(batch)

    monkeypatch.setattr(by_onnx.engine, "run", watched)
    np.testing.assert_allclose(by_onnx.probabilities(texts), expected, atol=1e-5)
    assert max(sizes) <= FEW_TOKENS
    assert sum(sizes) > 20_000


@given(st.lists(st.integers(0, 30), max_size=40))
def test_texts_are_tokenized_in_portions_that_hold_every_row_once(lengths: list[int]) -> None:
    texts = ["x" * n for n in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "CHARACTERS", 50)
        parts = [texts[part] for part in classifier._portions([texts])]
    assert [text for part in parts for text in part] == texts
    assert all(sum(map(len, part[:-1])) < 50 for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "more", "metric", "message"),
    [
        (pairs, ("dataset.text_pair=other",), "accuracy", "a pair of texts with one of 2 labels"),
        (scores, (), "pearson", "a text with a score"),
        (several, SEVERAL, "f1_micro", "a text with any number of 3 labels"),
        (long_texts, WINDOWS, "accuracy", "in windows of 24 tokens"),
    ],
)
def test_one_command_does_every_shape_and_finds_it_finished(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    rows: Callable[[int], Any],
    more: tuple[str, ...],
    metric: str,
    message: str,
) -> None:
    sliced = "evaluation.slices=[text]"
    typed = shaped(tmp_path, checkpoints["bert"], rows, *more, "strategy.epochs=1", sliced)
    result = run(compose(*typed))
    assert result.chosen_by == metric
    measured = result.metrics["validation"]
    assert measured["rows"] == 32
    one_label = metric == "accuracy"
    assert ("confusion" in measured) == one_label
    assert set(measured["intervals"]) == set(measured["metrics"])
    assert ("reliability" in measured) == (metric != "pearson")
    for slices in measured["slices"].values():
        assert sum(part["rows"] for part in slices) == 32
    assert f"  {metric} " in str(result)
    again = run(compose(*typed, "hub.examples=true"))
    assert again.best == result.best
    assert again.previous_state == "finished"
    card = (result.model / "README.md").read_text(encoding="utf-8")
    assert message in card
    assert "Examples from the data" in card
    assert "nlp-transfer predict FOLDER" in card
    assert "--onnx" in card
