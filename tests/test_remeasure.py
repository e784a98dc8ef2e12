"""Any exported folder, measured on texts of any origin."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import LABELS, SAMPLE_TEXTS, make_rows, write_csv
from datasets import ClassLabel, Dataset
from omegaconf import OmegaConf
from scipy import special, stats
from sklearn import metrics as sk
from tiny_models import save_classifier
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from nlp_transfer import compose
from nlp_transfer.analysis.evaluate import LabelledTexts, align, evaluate_model
from nlp_transfer.cli.main import main
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.classifier import Classifier

MakeFolder = Callable[..., Path]


def measured(folder: Path, data: str | Path, split: str = "test", **columns: str) -> dict[str, Any]:
    figures = evaluate_model(folder, LabelledTexts(str(data), split, **columns)).measured
    assert list(figures) == [split]
    return figures[split]


def refused(folder: Path, data: str | Path, **columns: str) -> str:
    with pytest.raises(UserError) as caught:
        measured(folder, data, **columns)
    assert caught.value.code is ExitCode.DATA
    return str(caught.value)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def copy_with_dataset(run: Path, into: Path, **dataset: Any) -> Path:
    """A copy of a run, as if its data had been asked for in other words."""
    shutil.copytree(run, into)
    tree = OmegaConf.load(into / "config.yaml")
    for key, value in dataset.items():
        OmegaConf.update(tree, f"dataset.{key}", value)
    OmegaConf.save(tree, into / "config.yaml")
    return into


@pytest.fixture
def make_folder(checkpoints: dict[str, Path], tmp_path: Path) -> MakeFolder:
    """A classifier with random weights and the configuration that a test wants."""

    def make(labels: tuple[str, ...], **config: Any) -> Path:
        torch.manual_seed(2)
        names = {
            "id2label": dict(enumerate(labels)),
            "label2id": {n: i for i, n in enumerate(labels)},
        }
        model_config = AutoConfig.from_pretrained(
            checkpoints["bert"], num_labels=len(labels), **names, **config
        )
        model_config.initializer_range = 1.0
        folder = tmp_path / "told"
        AutoModelForSequenceClassification.from_config(model_config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(checkpoints["bert"]).save_pretrained(folder)
        return folder

    return make


def test_a_run_on_its_own_test_file_gives_the_numbers_of_metrics_json(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        ["evaluate", str(finished), "--data", str(finished.parent / "test.csv"), "--out", "m.json"]
    )
    before = json.loads((finished / "metrics.json").read_text())["test"]
    after = json.loads(Path("m.json").read_text())["test"]
    assert set(before) == set(after)
    assert after["rows"] == 400
    assert after["metrics"] == pytest.approx(before["metrics"], abs=1e-6)
    assert set(before["intervals"]) == set(after["intervals"])
    for name, between in before["intervals"].items():
        assert after["intervals"][name] == pytest.approx(between, abs=1e-5)
    assert after["confusion"] == before["confusion"]
    assert after["per_class"] == before["per_class"]
    output = capsys.readouterr().out
    accuracy = before["metrics"]["accuracy"]
    assert f"{accuracy:.3f} [" in output
    assert "selection" not in output
    # The exported folder alone knows no less.
    assert measured(finished / "model", finished.parent / "test.csv") == after


def test_rows_that_the_run_has_learned_from_are_said(
    finished: Path, reviews: dict[str, Path]
) -> None:
    learned = make_rows(101)
    assert reviews["train"].read_text().count("\n") == 102
    new = [(f"{text} and more of it", label) for text, label in make_rows(20, seed=77)]
    for name, rows, said in (
        ("learned", learned[:30], "30 of the 30 rows of test (100.0%) are in the run's train, too"),
        ("mixed", [*learned[:5], *new], "5 of the 25 rows of test (20.0%) are in the run's train"),
        ("new", new, None),
    ):
        texts = LabelledTexts(str(write_csv(Path(f"{name}.csv"), rows)))
        notes = " ".join(evaluate_model(finished, texts).notes)
        assert said in notes if said else "train" not in notes
    # An exported folder does not know what its train was, nor does a run whose files have gone.
    texts = LabelledTexts("learned.csv")
    assert "train" not in " ".join(evaluate_model(finished / "model", texts).notes)
    moved = copy_with_dataset(finished, Path("moved"), train="gone.csv")
    assert "train" not in " ".join(evaluate_model(moved, texts).notes)


def test_labels_are_cleaned_as_in_the_run(finished: Path) -> None:
    file = finished.parent / "test.csv"
    rows = [*csv.DictReader(io.StringIO(file.read_text()))]
    rows[0]["label"] = f"{rows[0]['label'].title()} "
    spelt = write_rows(Path("spelt.jsonl"), rows)
    assert "'" in refused(finished, spelt)  # which shows the blank
    cleaning = copy_with_dataset(finished, Path("cleaning"), clean_labels=True)
    assert measured(cleaning, spelt) == measured(finished, file)


def test_a_folder_of_other_origin_is_measured_as_a_pipeline_answers(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = save_classifier(checkpoints["roberta"], tmp_path / "foreign")
    rows = [(text, LABELS[i % 3]) for i, text in enumerate(SAMPLE_TEXTS)]
    figures = measured(folder, write_csv(tmp_path / "rows.csv", rows))
    classify = pipeline("text-classification", str(folder))
    answers = [answer["label"] for answer in classify(SAMPLE_TEXTS, truncation=True)]
    right = [label for _, label in rows]
    assert figures["metrics"]["accuracy"] == pytest.approx(sk.accuracy_score(right, answers))
    expected = sk.f1_score(right, answers, labels=LABELS, average="macro")
    assert figures["metrics"]["f1_macro"] == pytest.approx(expected)
    assert [row["label"] for row in figures["per_class"]] == list(LABELS)


def test_labels_are_aligned_by_name_and_never_in_part() -> None:
    assert align(["a", "b"], ("b", "a"), {}).names == {"a": "a", "b": "b"}
    assert align(["0", "1"], ("0", "1"), {}).how is None
    named = align(["0", "1"], ("ham", "spam"), {"0": "ham", "1": "spam"})
    assert named.names == {"0": "ham", "1": "spam"}
    cased = align(["negative", "Positive"], ("NEGATIVE", "POSITIVE"), {})
    assert cased.names == {"negative": "NEGATIVE", "Positive": "POSITIVE"}
    assert "case" in str(cased.how)
    numbered = align(["2", "0"], ("LABEL_0", "LABEL_1", "LABEL_2"), {})
    assert numbered.names == {"2": "LABEL_2", "0": "LABEL_0"}
    assert numbered.how == "by number"
    for written, labels in [
        (["good", "so-so"], ("bad", "good")),  # in part
        (["a", "A"], ("a", "b")),  # which of them is a?
        (["it"], ("IT", "It")),
        (["0", "3"], ("LABEL_0", "LABEL_1")),
        (["0", "1"], ("ham", "spam")),
    ]:
        with pytest.raises(UserError, match="do not all belong to the model") as caught:
            align(written, labels, {})
        assert caught.value.code is ExitCode.DATA


def test_labels_of_another_spelling_are_said_to_be_matched(
    make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(("LABEL_0", "LABEL_1"))
    rows = [{"text": text, "label": int(label == "positive")} for text, label in make_rows(30)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    main(["evaluate", str(folder), "--data", str(data)])
    assert "matched by number: 0 is LABEL_0, 1 is LABEL_1" in capsys.readouterr().out
    answers = Classifier.load(folder).probabilities([row["text"] for row in rows]).argmax(axis=1)
    expected = np.mean(answers == [row["label"] for row in rows])
    assert measured(folder, data)["metrics"]["accuracy"] == pytest.approx(expected)
    # Data that lack a label of the model are measured all the same.
    some = write_rows(tmp_path / "some.jsonl", [row for row in rows if row["label"]])
    assert measured(folder, some)["per_class"][0]["support"] == 0


def test_what_cannot_be_measured_is_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(("bad", "good"))
    rows = [{"body": "a", "stars": ["bad", "good"]}, {"body": "b", "stars": ["good"]}]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    assert "Set --text and --label to one of them" in refused(folder, data)
    assert "it has body, stars" in refused(folder, data, text="body")
    assert "multi_label takes any number" in refused(folder, data, text="body", label="stars")
    assert "no such file" in refused(folder, "nothing.csv")
    empty = write_csv(tmp_path / "empty.csv", [("a", ""), ("b", "")])
    message = refused(folder, empty)  # names no option that this command lacks
    assert message.endswith("Correct or remove them.\nNo row of the data has a label.")
    partly = write_csv(tmp_path / "partly.csv", [("a", "good"), ("b", "great")])
    assert "great is not among its 2 labels (bad, good)" in refused(folder, partly)


def test_pairs_several_labels_and_windows_are_measured(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    texts = [text for text, _ in make_rows(40, seed=3)]
    generator = np.random.default_rng(0)
    answers = generator.random((40, 3)) < 0.5
    rows = [
        {"a": text, "b": other, "x": int(x), "y": int(y), "z": int(z)}
        for text, other, (x, y, z) in zip(texts, texts[::-1], answers, strict=True)
    ]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    folder = make_folder(("z", "y", "x"), problem_type="multi_label_classification")
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "text_pairs": True}))
    figures = measured(folder, data, text="a", text_pair="b", label="x,y,z")
    classifier = Classifier.load(folder)
    probabilities = classifier.probabilities(texts, texts[::-1])
    expected = sk.f1_score(answers[:, ::-1], probabilities > 0.5, average="macro", zero_division=0)
    assert figures["metrics"]["f1_macro"] == pytest.approx(expected)
    assert "needs both texts" in refused(folder, data, text="a", label="x,y,z")
    windows = {"how": "windows", "stride": 2, "pooling": "max"}
    stored = {**json.loads(file.read_text()), "text_pairs": False, "long_text": windows}
    file.write_text(json.dumps(stored))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "model_max_length": 8}))
    figures = measured(folder, data, text="a", label="x,y,z")
    engine = Classifier.load(folder).engine
    inputs = engine.encode(texts, None)
    assert len(inputs) > 40
    probabilities = special.expit(engine.logits(inputs))
    expected = sk.f1_score(answers[:, ::-1], probabilities > 0.5, average="micro", zero_division=0)
    assert figures["metrics"]["f1_micro"] == pytest.approx(expected)


@pytest.mark.parametrize("problem_type", ["regression", None])
def test_scores_are_measured_also_where_the_folder_does_not_say_so(
    make_folder: MakeFolder, tmp_path: Path, problem_type: str | None
) -> None:
    folder = make_folder(("LABEL_0",), problem_type=problem_type)
    texts = [text for text, _ in make_rows(40, seed=4)]
    scores = np.random.default_rng(0).normal(size=40).round(2)
    rows = [{"text": t, "label": float(w)} for t, w in zip(texts, scores, strict=True)]
    figures = measured(folder, write_rows(tmp_path / "rows.jsonl", rows))
    engine = Classifier.load(folder).engine
    predicted = engine.logits(engine.encode(texts, None))[:, 0]
    assert figures["metrics"]["pearson"] == pytest.approx(
        stats.pearsonr(scores, predicted)[0], abs=1e-6
    )


def test_a_run_cut_by_group_is_measured_on_data_without_that_column(
    finished: Path, tmp_path: Path
) -> None:
    run = copy_with_dataset(finished, tmp_path / "run", group="patient")
    before = json.loads((run / "metrics.json").read_text())["test"]["metrics"]
    figures = measured(run, finished.parent / "test.csv")["metrics"]
    assert figures == pytest.approx(before, abs=1e-6)


def test_numbers_that_name_a_class_label_are_understood(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"0": "negative", "1": "positive"}
    run = copy_with_dataset(finished, tmp_path / "run", label_names=names)
    rows = make_rows(400, seed=9)  # the run's own test split
    table = Dataset.from_dict(
        {
            "text": [text for text, _ in rows],
            "label": [int(label == "positive") for _, label in rows],
        }
    )
    file = tmp_path / "test.parquet"
    table.cast_column("label", ClassLabel(names=["neg", "pos"])).to_parquet(file)
    before = json.loads((run / "metrics.json").read_text())["test"]
    figures = measured(run, file)
    assert figures["metrics"] == pytest.approx(before["metrics"], abs=1e-6)
    assert figures["confusion"] == before["confusion"]
    main(["evaluate", str(run), "--data", str(file)])
    assert "neg is negative, pos is positive" in capsys.readouterr().out
    # Without a `ClassLabel` numbers name nothing: "neg" is not 0.
    plain = write_csv(tmp_path / "plain.csv", [("a", "neg"), ("b", "pos")])
    assert "neg, pos are not among its 2 labels" in refused(run, plain)


def test_one_column_of_yes_and_no_is_no_score(make_folder: MakeFolder, tmp_path: Path) -> None:
    model = make_folder(("toxic",), problem_type="multi_label_classification")
    run = tmp_path / "run"
    shutil.copytree(model, run / "model")
    (run / "run.json").write_text(json.dumps({"state": "finished"}))
    config = compose(
        "+task=classify", "dataset=files", "dataset.train=x.csv", "dataset.label=[toxic]"
    )
    OmegaConf.save(OmegaConf.structured(config), run / "config.yaml")
    texts = [text for text, _ in make_rows(60, seed=5)]
    answers = np.random.default_rng(0).random(60) < 0.5
    rows = [{"text": t, "toxic": int(a)} for t, a in zip(texts, answers, strict=True)]
    figures = measured(run, write_rows(tmp_path / "rows.jsonl", rows))
    sure = Classifier.load(run).probabilities(texts)[:, 0]
    expected = sk.average_precision_score(answers, sure)
    assert figures["metrics"]["average_precision"] == pytest.approx(expected)
    assert [row["label"] for row in figures["per_class"]] == ["toxic"]


def test_our_datasets_are_found_by_name(make_folder: MakeFolder) -> None:
    folder = make_folder(("negative", "positive"))
    assert measured(folder, "reviews")["rows"] == 188
    assert measured(folder, "reviews", "validation")["rows"] == 180
