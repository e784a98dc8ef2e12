"""The ONNX export: the same answers, on every shape, without torch; int8 only where it may."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, LABELS, SAMPLE_TEXTS, slow_but, write_csv
from safetensors.torch import load_file, save_file
from tiny_models import save_classifier
from transformers import AutoModelForSequenceClassification

from nlp_transfer import Classifier, compose, run
from nlp_transfer.cli.main import main
from nlp_transfer.config.sections.delivery import HubConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.export.onnx import Exported, export_onnx, table
from nlp_transfer.export.onnx_parity import Measured, Questions, int8_refusal
from nlp_transfer.export.references import of_file
from nlp_transfer.hub.upload import push
from nlp_transfer.inference.onnx_engine import OnnxEngine
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.tokenization.model_inputs import PAIRS

ODD = ["a", "was " * 300, "Ünïcode ☃ and \t tabs", "", "the cold soup"]


@pytest.mark.parametrize("architecture", slow_but(["bert"], ARCHITECTURES))
def test_onnx_answers_what_torch_does_from_raw_text(
    architecture: str, exported: Callable[[str], Exported]
) -> None:
    folder = exported(architecture).folder
    by_torch, by_onnx = (Classifier.load(folder, backend) for backend in ("torch", "onnx"))
    assert by_onnx.labels == by_torch.labels == LABELS
    texts = [*SAMPLE_TEXTS, *ODD]
    np.testing.assert_allclose(
        by_onnx.probabilities(texts), by_torch.probabilities(texts), atol=1e-5
    )
    answers = by_onnx.predict(texts)
    assert [text for text, answer in zip(texts, answers, strict=True) if answer is None] == [""]
    assert len({answer.label for answer in answers if answer is not None}) > 1
    pairs = [*reversed(texts)]
    alone, paired = by_onnx.probabilities(texts), by_onnx.probabilities(texts, pairs)
    np.testing.assert_allclose(paired, by_torch.probabilities(texts, pairs), atol=1e-5)
    assert np.abs(paired - alone).max() > 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (5, 3), (33, 17)])
def test_batch_and_length_are_free(
    shape: tuple[int, int], exported: Callable[[str], Exported]
) -> None:
    folder = exported("bert").folder
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    engine = OnnxEngine.load(folder, "onnx", threads=1)
    ids = np.random.default_rng(0).integers(5, 30, shape)
    mask = np.ones(shape, dtype=np.int64)
    with torch.no_grad():
        expected = model(torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()
    types = np.zeros(shape, dtype=np.int64)
    logits = engine.run({"input_ids": ids, "attention_mask": mask, "token_type_ids": types})
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_an_int8_answer_does_not_depend_on_its_neighbours(
    exported: Callable[[str], Exported],
) -> None:
    classifier = Classifier.load(exported("bert").folder, "int8", threads=1)
    together = classifier.probabilities(SAMPLE_TEXTS)
    apart = np.concatenate([classifier.probabilities([text]) for text in SAMPLE_TEXTS])
    assert (together == apart).all()


def test_the_report_says_what_the_export_is_worth(exported: Callable[[str], Exported]) -> None:
    result = exported("bert")
    assert sorted(file.name for file in (result.folder / "onnx").iterdir()) == [
        "export.json",
        "model.onnx",
        "model_int8.onnx",
    ]
    written = json.loads((result.folder / "onnx" / "export.json").read_text())
    assert written["data"] == {"source": "made-up texts", "rows": len(SAMPLE_TEXTS)}
    assert set(written["backends"]) == {"torch", "onnx", "int8"}
    onnx, int8 = written["backends"]["onnx"], written["backends"]["int8"]
    assert onnx["difference"] <= 1e-4
    assert onnx["agreement"] == 1.0
    assert written["metric"] == "accuracy"
    assert onnx["worth"] == written["backends"]["torch"]["worth"]
    low, high = onnx["interval"]
    assert low < onnx["worth"] < high
    assert 0 < int8["megabytes"] < onnx["megabytes"]
    assert all(ms > 0 for ms in int8["milliseconds"].values())
    assert [line.split()[0] for line in table(result).splitlines()[1:]] == ["torch", "onnx", "int8"]


def test_a_graph_that_differs_is_not_written(
    exported: Callable[[str], Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(exported("bert").folder, tmp_path / "model"))
    shutil.move(folder / "onnx", tmp_path / "graph")
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] += torch.tensor([1e-3, 0.0, 0.0])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    def write(_: object, partial: Path, int8: bool) -> None:
        """The graph of the weights before."""
        assert not int8
        shutil.copy(tmp_path / "graph/model.onnx", partial)

    monkeypatch.setattr("nlp_transfer.export.onnx._write", write)
    with pytest.raises(UserError, match="does not give the logits of torch") as refused:
        export_onnx(folder, Questions(SAMPLE_TEXTS, None, "texts"))
    assert refused.value.code is ExitCode.EXPORT
    assert not any(path.name.startswith("onnx") for path in folder.iterdir())


def test_a_graph_of_other_weights_answers_for_nobody(
    exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported("bert").folder, tmp_path / "model"))
    weights = folder / "model.safetensors"
    for changed in (weights.stat().st_mtime_ns, 0):  # a copy is as good, also with another time
        os.utime(weights, ns=(changed, changed))
        assert Classifier.load(folder, "onnx").labels == LABELS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for backend in ("onnx", "int8"):
        with pytest.raises(UserError, match="have changed since .* --onnx, or remove"):
            Classifier.load(folder, backend)
    with pytest.raises(UserError, match="have changed since"):
        push(folder, HubConfig("user/name"))
    weights.unlink()  # as in an image that has no torch
    assert Classifier.load(folder, "onnx").labels == LABELS
    for damaged in ("tokenizer.json", "onnx/export.json"):
        original = (folder / damaged).read_bytes()
        (folder / damaged).write_bytes(original[:20])
        with pytest.raises(UserError, match=f"{damaged} (is damaged|cannot be read)"):
            Classifier.load(folder, "onnx")
        (folder / damaged).write_bytes(original)
    weights.write_bytes(content[:1000])
    with pytest.raises(UserError, match="cannot be opened as a classifier"):
        Classifier.load(folder)


def test_a_reference_that_is_none_is_refused_with_its_line(checkpoints: dict[str, Path]) -> None:
    folder = save_classifier(checkpoints["bert"], Path("model"))
    config = json.loads((folder / "config.json").read_text())
    scores = {"problem_type": "regression", "id2label": {"0": "score"}, "label2id": {"score": 0}}
    (folder / "config.json").write_text(json.dumps(config | scores))
    file = write_csv(Path("t.csv"), [("a film", "1.5"), ("a soup", "n/a")])
    with pytest.raises(UserError, match="line 3, row 2: label 'n/a'") as refused:
        of_file(folder, str(file), "text", "label")
    assert refused.value.code is ExitCode.DATA


def test_int8_is_refused_where_its_accuracy_leaves_the_interval() -> None:
    float32 = Measured(0.0, 1.0, 0.9, (0.88, 0.92), 90.0, {})
    int8 = Measured(0.5, 0.99, 0.87, None, 23.0, {})
    message = int8_refusal({"onnx": float32, "int8": int8}, SINGLE_LABEL)
    assert message == (
        "its accuracy 0.8700 is outside the 95% interval of float32's, 0.8800 to 0.9200"
    )
    assert int8_refusal({"onnx": float32, "int8": replace(int8, worth=0.88)}, SINGLE_LABEL) is None


@pytest.mark.slow
def test_texts_of_a_file_may_be_pairs_and_the_report_does_not_say_where_it_lay(
    checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_classifier(checkpoints["bert"], Path("model"))
    config = json.loads((folder / "config.json").read_text())
    second = [*reversed(SAMPLE_TEXTS)]
    file = write_csv(Path("pairs.csv"), list(zip(SAMPLE_TEXTS, second, strict=True))).resolve()
    assert of_file(folder, str(file), "text", None, text_pair="label").pairs == second
    typed = ["export", "model", "--onnx", "--data", str(file)]
    main([*typed, "--text-pair", "label"])
    assert f"Compared on {len(SAMPLE_TEXTS)} texts of pairs.csv." in capsys.readouterr().out
    assert str(file.parent) not in (folder / "onnx" / "export.json").read_text()
    for paired, more in ((True, []), (False, ["--text-pair", "label"])):
        (folder / "config.json").write_text(json.dumps({**config, PAIRS: paired}))
        expected = "add --text-pair COLUMN" if paired else "leave out --text-pair"
        assert expected in refused_line(ExitCode.CONFIG, capsys, *typed, *more).err


@pytest.mark.slow
def test_a_run_is_compared_on_its_validation_split_and_int8_that_loses_labels_is_left_out(
    typed: Callable[..., list[str]],
    reviews: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(compose(*typed("strategy=feature_extraction", "strategy.epochs=1", "run_dir=mine")))
    capsys.readouterr()
    monkeypatch.setattr("nlp_transfer.export.onnx_parity.KEPT", 1.01)
    refusal = refused_line(ExitCode.EXPORT, capsys, "export", "mine", "--onnx", "--int8")
    assert "int8 was not written: it keeps" in refusal.err
    assert "int8" in refusal.out  # what it would have been worth is in the table
    assert "Compared on 32 texts of the run's validation split" in refusal.out
    assert {file.name for file in Path("mine/model/onnx").iterdir()} == {
        "export.json",
        "model.onnx",
    }
    with pytest.raises(UserError, match="export .* --onnx --int8"):
        Classifier.load("mine", "int8")
    measured = json.loads(Path("mine/metrics.json").read_text())["validation"]["metrics"]
    written = json.loads(Path("mine/model/onnx/export.json").read_text())
    assert written["backends"]["onnx"]["worth"] == pytest.approx(measured["accuracy"])
    assert "at least" in written["int8_refused"]
    # The texts it was validated on are not the same any more.
    config = Path("mine/config.yaml")
    config.write_text(config.read_text().replace(str(reviews["validation"]), str(reviews["test"])))
    refusal = refused_line(ExitCode.DATA, capsys, "export", "mine", "--onnx")
    assert "has changed since it was trained" in refusal.err


def refused_line(code: int, capsys: pytest.CaptureFixture[str], *typed: str) -> Any:
    """What a refused command line says."""
    with pytest.raises(SystemExit) as refused:
        main(list(typed))
    assert refused.value.code == code
    return capsys.readouterr()


@pytest.mark.parametrize(
    ("typed", "code", "message"),
    [
        (["export", "model", "--int8"], ExitCode.CONFIG, "--onnx"),
        (["export", "nowhere", "--onnx"], ExitCode.CHECKPOINT, "there is no such folder"),
        (["export", "unfinished", "--onnx"], ExitCode.RUN_FOLDER, "not finished"),
        (["export", "model", "--onnx"], ExitCode.CONFIG, "--data FILE"),
        (["export", "model", "--onnx", "--data", "no.csv"], ExitCode.DATA, "no such file"),
        (
            ["export", "model", "--onnx", "--data", "t.csv", "--text", "x"],
            ExitCode.DATA,
            "it has text, label",
        ),
        (
            ["export", "model", "--onnx", "--data", "t.csv", "--label", "label"],
            ExitCode.DATA,
            "labels that the model does not have: positive",
        ),
        (["export", "model", "--onnx", "--threads", "0"], ExitCode.CONFIG, "1 or more"),
        (["exprot", "model"], ExitCode.CONFIG, "Did you mean export?"),
    ],
)
def test_what_cannot_be_exported_is_one_clear_error(
    typed: list[str],
    code: ExitCode,
    message: str,
    checkpoints: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_classifier(checkpoints["bert"], Path("model"))
    write_csv(Path("t.csv"), [("a text", "positive")])
    Path("unfinished").mkdir()
    Path("unfinished", "run.json").write_text(json.dumps({"state": "unfinished"}))
    capsys.readouterr()  # the bars of what was loaded just now
    error = refused_line(code, capsys, *typed).err
    assert error.startswith("Error: ")
    assert message in error


def test_without_a_command_all_of_them_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    shown = refused_line(ExitCode.CONFIG, capsys).err
    assert shown.startswith("usage: nlp-transfer COMMAND") and "\n  export " in shown


def test_a_fresh_process_answers_by_onnx_without_what_training_needs(
    exported: Callable[[str], Exported],
) -> None:
    script = """
import sys
import nlp_transfer.cli.main, nlp_transfer.serving.app
from nlp_transfer import Classifier
for backend in ("onnx", "int8"):
    print(Classifier.load(sys.argv[1], backend).predict(["the cold soup"])[0].label)
# What scripts/Dockerfile does not install.
heavy = ("torch", "transformers", "datasets", "hydra", "omegaconf", "sklearn", "scipy", "pyarrow")
print([name for name in heavy if name in sys.modules])
# A table needs pyarrow, and its first answer should not wait for what is large.
options = ["--backend", "onnx", "--text", "t", "--format", "jsonl"]
nlp_transfer.cli.main.main(["predict", sys.argv[1], *options])
open("texts.csv", "w").write("t,n\\n" + "the cold soup,1\\n,2\\n")
files = ["--file", "texts.csv", "--out", "answers.csv", "--probabilities"]
nlp_transfer.cli.main.main(["predict", sys.argv[1], *options[:-2], *files])
open(sys.argv[1] + "/config.yaml", "w").write("dataset:\\n  text: t\\n")
nlp_transfer.cli.main.main(["predict", sys.argv[1], *options[:2], *files, "--force"])
print([name for name in (*heavy[:-1], "pandas") if name in sys.modules])
"""
    folder = Path(shutil.copytree(exported("bert").folder, "model"))
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        input='{"t": "the cold soup"}\n',
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    expected = [
        Classifier.load(folder, backend).predict(["the cold soup"])[0].label
        for backend in ("torch", "int8")
    ]
    *printed, answered, loaded = done.stdout.splitlines()
    assert printed == [*expected, "[]"]
    assert json.loads(answered)["label"] == expected[0]
    assert loaded == "[]"
