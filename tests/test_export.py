"""The exported folder: plain, whole, and caught where it lies."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from prepared_runs import Prepared, prepare
from safetensors.torch import load_file, save_file

from nlp_transfer import Classifier, compose, run
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.export.checkpoint import export
from nlp_transfer.export.verification import Claim, PipelineProbe, verify


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Prepared:
    """A tiny classifier, trained for one epoch."""
    checkpoints = request.getfixturevalue("checkpoints")
    reviews = request.getfixturevalue("reviews")
    files = [f"dataset.{split}={path}" for split, path in reviews.items()]
    name = f"checkpoint.name={checkpoints['bert']}"
    more = ("training.cpu=true", "training.threads=1", "strategy.learning_rate=1e-3")
    prepared = prepare(["+task=classify", name, *files, *more], tmp_path_factory.mktemp("run"))
    prepared.train()
    return prepared


@pytest.fixture
def claim(trained: Prepared, tmp_path: Path) -> Claim:
    """An exported folder and what it is to answer."""
    pretrained = trained.pretrained
    folder = export(pretrained.model, pretrained.tokenizer, "some/encoder", 40, tmp_path / "model")
    texts = list(trained.corpus.splits["validation"]["text"])
    return Claim(folder, texts, trained.corpus.labels, trained.logits("validation"))


def test_the_folder_holds_a_plain_checkpoint_and_nothing_else(claim: Claim) -> None:
    names = {file.name for file in claim.folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    config = json.loads((claim.folder / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert config["label2id"] == {"negative": 0, "positive": 1}
    tokenizer = json.loads((claim.folder / "tokenizer_config.json").read_text())
    assert tokenizer["model_max_length"] == 40


def test_no_path_of_the_machine_that_trained_is_in_the_folder(
    claim: Claim, checkpoints: dict[str, Path]
) -> None:
    for file in claim.folder.iterdir():
        assert str(checkpoints["bert"]).encode() not in file.read_bytes()


def test_other_users_may_read_the_folder(claim: Claim) -> None:
    for file in claim.folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o044 == 0o044


def test_a_folder_that_was_changed_after_the_measurement_is_caught(claim: Claim) -> None:
    changed = Path(shutil.copytree(claim.folder, claim.folder.with_name("changed")))
    weights = load_file(changed / "model.safetensors")
    weights["classifier.bias"] += torch.tensor([1e-3, -1e-3])
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    # The first of the two, as it was written, is what was measured.
    with pytest.raises(
        UserError, match="changed does not give the probabilities that were measured"
    ) as caught:
        verify([claim, replace(claim, folder=changed)])
    assert caught.value.code is ExitCode.EXPORT
    # The process that trained would see it, too.
    assert verify([claim], fresh_process=False)[0] <= 1e-5
    with pytest.raises(UserError, match="changed does not give the probabilities"):
        verify([replace(claim, folder=changed)], fresh_process=False)


@pytest.mark.slow
def test_swapped_labels_are_caught(claim: Claim) -> None:
    file = claim.folder / "config.json"
    config = json.loads(file.read_text())
    config["id2label"] = {"0": "positive", "1": "negative"}
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match="does not give the probabilities that were measured"):
        verify([claim])


def test_the_fresh_process_cannot_import_this_package() -> None:
    program = Path(__file__).parents[1] / "nlp_transfer" / "export" / "pipeline_probe.py"
    code = program.read_text().split("from transformers")[0] + "import nlp_transfer"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "ModuleNotFoundError" in done.stderr


def test_the_classifier_answers_in_order_as_the_model_did(claim: Claim) -> None:
    classifier = Classifier.load(claim.folder)
    predictions = classifier.predict(claim.texts)
    for prediction, logits in zip(predictions, claim.logits, strict=True):
        assert prediction.label == claim.labels[int(logits.argmax())]
        assert prediction.score == max(prediction.probabilities.values())
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert classifier.predict([]) == []
    assert len(classifier.predict(["word " * 500])) == 1


def test_a_single_text_instead_of_a_list_is_refused(claim: Claim) -> None:
    with pytest.raises(TypeError, match="list of texts"):
        Classifier.load(claim.folder).predict("what a find")


def test_opening_a_folder_that_is_none_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened as a classifier"):
        Classifier.load(tmp_path)


@pytest.mark.slow
def test_a_test_split_that_is_left_alone_is_not_said_to_be_missing(
    typed: Callable[..., list[str]],
) -> None:
    words = typed("strategy=feature_extraction", "evaluation.test=false", "export.verify_rows=2")
    done = run(compose(*words))
    sentence = "The test split was not used (evaluation.test=false): these figures come from "
    files = [(done.folder / name).read_text() for name in ("metrics.json", "report.html")]
    for text in (" ".join(str(done).split()), *files):
        assert sentence in text
        assert "no labelled test split" not in text
    assert set(done.metrics) == {"validation"}


def test_a_finished_run_is_reported_and_not_trained_again(
    typed: Callable[..., list[str]],
) -> None:
    words = typed("strategy=feature_extraction", "dataset.test=null")
    config = compose(*words)
    first = run(config)
    lines = " ".join(str(first).split())
    selected = "from validation, on which choices were made, too"
    assert f"There is no labelled test split: these figures come {selected}." in lines
    assert selected in (first.folder / "metrics.json").read_text()
    decided = json.loads((first.folder / "run.json").read_text())["decisions"]
    assert decided["pooled_layer"]["pooling"] in ("mean", "first")
    assert first.best > 0.6
    weights = (first.model / "model.safetensors").stat().st_mtime_ns
    again = run(config)
    assert (again.model, again.metrics) == (first.model, first.metrics)
    assert (first.model / "model.safetensors").stat().st_mtime_ns == weights
    output = str(again)
    assert "Training\n" in output
    assert "Calibration" in output
    assert not first.folder.is_absolute()
    assert not (first.folder / "checkpoints").exists()


def test_a_run_writes_down_what_it_did(typed: Callable[..., list[str]]) -> None:
    result = run(compose(*typed("strategy=two_phase", "strategy.epochs=1", "run_dir=mine")))
    written = json.loads(Path("mine/run.json").read_text())
    assert written["state"] == "finished"
    assert written["decisions"] == {"precision": "fp32"}
    assert [stage["name"] for stage in written["stages"]] == ["head", "all"]
    assert {"torch", "transformers", "python"} <= set(written["versions"])
    assert len(written["corpus"]) == 64
    metrics = json.loads(Path("mine/metrics.json").read_text())
    assert {"validation", "test"} == set(metrics)
    assert metrics["test"]["rows"] == 33
    names = {"accuracy", "f1_macro", "log_loss", "brier", "ece"}
    assert set(metrics["test"]["metrics"]) == set(metrics["test"]["intervals"]) == names
    for name, (low, high) in metrics["test"]["intervals"].items():
        assert low <= metrics["test"]["metrics"][name] <= high
    assert np.sum(metrics["test"]["confusion"]) == 33
    assert {file.name for file in Path("mine").iterdir()} == {
        ".lock",
        "config.yaml",
        "data_report.json",
        "metrics.json",
        "mistakes.json",
        "model",
        "predictions",
        "report.html",
        "report.md",
        "run.json",
    }
    assert result.best == metrics["validation"]["metrics"]["accuracy"]
    report = json.loads(Path("mine/data_report.json").read_text())
    assert {split: about["rows"] for split, about in report["splits"].items()} == {
        "train": 101,
        "validation": 32,
        "test": 33,
    }
    # Rows of the data stay out of what is shared.
    text = load_corpus(compose(*typed()).dataset, 0).splits["train"][0]["text"]
    shared = [file for file in Path("mine/model").rglob("*") if file.suffix in (".json", ".md")]
    assert not any(text in file.read_text() for file in shared)


def test_a_model_that_has_diverged_is_neither_measured_nor_exported(
    typed: Callable[..., list[str]],
) -> None:
    rate = ("strategy.learning_rate=1e39", "strategy.allow_destructive_rate=true")
    more = ("strategy.epochs=1", "training.batch_size=101", "training.warmup=0")
    with pytest.raises(UserError, match="not finite") as stopped:
        run(compose(*typed(*rate, *more, "run_dir=mine")))
    assert stopped.value.code is ExitCode.TRAINING
    assert not Path("mine/model").exists()


@pytest.mark.slow
def test_a_claim_of_nothing_is_no_proof(claim: Claim) -> None:
    claim.logits[0] = np.nan
    with pytest.raises(UserError, match="does not give the probabilities that were measured"):
        verify([claim])


def test_a_folder_whose_tokenizer_knows_no_limit_still_answers_long_texts(claim: Claim) -> None:
    file = claim.folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["model_max_length"]
    file.write_text(json.dumps(config))
    assert len(Classifier.load(claim.folder).predict(["word " * 500])) == 1


def test_the_process_that_waits_for_a_folder_ends_with_whoever_started_it(tmp_path: Path) -> None:
    code = "import sys, time; from nlp_transfer.export.verification import PipelineProbe\n"
    code += "p = PipelineProbe(); p.start(); print(p._process.pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert parent.stdout is not None
    waiting = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    for _ in range(1800):  # it looks once its imports are done
        if not is_running(waiting):
            break
        time.sleep(0.1)
    assert not is_running(waiting)


def is_running(process: int) -> bool:
    """Whether there is such a process that is no zombie."""
    status = Path(f"/proc/{process}/status")
    return status.is_file() and "State:\tZ" not in status.read_text()


@pytest.mark.slow
def test_a_process_that_was_started_early_answers_and_a_dead_one_is_replaced(claim: Claim) -> None:
    with PipelineProbe() as probe:
        probe.start()
        first = probe._process
        assert verify([claim], probe=probe)[0] <= 1e-5
        assert probe._process is first
        assert verify([claim], probe=probe)[0] <= 1e-5
        assert probe._process is not first
    with PipelineProbe() as probe:
        probe.start()
    assert probe._process.returncode is not None
