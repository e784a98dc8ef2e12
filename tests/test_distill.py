"""`nlp-transfer distill`: a student with fewer layers that answers as its teacher."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_rows, write_csv
from safetensors.torch import load_file
from training_process import PROGRAM, largest_difference_of_two_processes, start
from transformers import AutoModelForSequenceClassification

from nlp_transfer import UserError, compose, run
from nlp_transfer.analysis.distill import Distilled, DistillRequest, distill, refuse_loss
from nlp_transfer.cli.main import main
from nlp_transfer.errors import ExitCode
from nlp_transfer.inference.torch_engine import TorchEngine
from nlp_transfer.models.student import even_layers, has_mean_layer
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.training.losses import LossOptions
from nlp_transfer.training.objectives.teacher import distillation

Typed = Callable[..., list[str]]
DISTILLING = PROGRAM.replace("nlp_transfer.cli.train", "nlp_transfer.cli.main")


@pytest.fixture(scope="module")
def pair(typed: Typed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Distilled, Path]:
    """A teacher with mean pooling, its student of one layer, and the texts without labels."""
    home = tmp_path_factory.mktemp("distill")
    words = typed("strategy.epochs=6", "strategy.learning_rate=1e-3", "checkpoint.pooling=mean")
    words += [f"tokenization.folder={home / 'tokens'}", f"features.folder={home / 'features'}"]
    teacher = run(compose(*words, f"run_dir={home / 'teacher'}")).folder
    texts = write_csv(home / "texts.csv", make_rows(60, seed=11))
    request = DistillRequest(1, unlabeled=str(texts), epochs=6, learning_rate=1e-3)
    return teacher, distill(teacher, request), texts


def test_layers_are_chosen_evenly() -> None:
    assert even_layers(6, 3) == [0, 2, 5]
    assert even_layers(12, 4) == [0, 4, 7, 11]
    assert even_layers(6, 1) == [5]


def test_the_loss_is_least_where_the_student_answers_as_the_teacher() -> None:
    teacher = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    for problem in (None, MULTI_LABEL):
        options = LossOptions(temperature=2.0, problem=problem)
        same = teacher.clone().requires_grad_()
        least = distillation(same, teacher, options)
        least.sum().backward()
        assert same.grad is not None and same.grad.abs().max() < 1e-6
        other = distillation(teacher * torch.tensor([1.0, -1.0, 1.0]), teacher, options)
        assert (other > least).all()


def test_a_student_is_a_smaller_plain_checkpoint_that_answers_as_the_teacher(
    pair: tuple[Path, Distilled, Path],
) -> None:
    teacher, distilled, _ = pair
    model = AutoModelForSequenceClassification.from_pretrained(distilled.folder / "model")
    assert model.config.num_hidden_layers == 2  # one, and the one that averages
    assert has_mean_layer(model)
    texts = [text for text, _ in make_rows(80, seed=21)]
    engines = [TorchEngine.load(folder / "model") for folder in (teacher, distilled.folder)]
    answers = [engine.logits(engine.encode(texts, None)).argmax(axis=1) for engine in engines]
    assert np.mean(answers[0] == answers[1]) > 0.9
    about = json.loads((distilled.folder / "run.json").read_text())
    assert about["verified"] and about["stages"][0]["name"] == "distill"
    assert (distilled.folder / "model" / "README.md").is_file()
    text = str(distilled)
    assert "33 rows of test, the same for both" in text
    assert distilled.sides[1].megabytes < distilled.sides[0].megabytes


def test_texts_without_labels_are_read_and_those_held_out_are_not(
    pair: tuple[Path, Distilled, Path], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    teacher, _, _ = pair
    held_out = make_rows(33, seed=2)  # as the test split
    texts = write_csv(tmp_path / "texts.csv", [*held_out, *make_rows(5, seed=12)])
    request = DistillRequest(1, tmp_path / "run", str(texts), epochs=1)
    with caplog.at_level("INFO", logger="nlp_transfer"):
        distill(teacher, request)
    assert "5 of 38 texts" in caplog.text


def test_a_student_that_loses_too_much_is_refused_and_kept(
    pair: tuple[Path, Distilled, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, distilled, texts = pair
    worse = replace(distilled, gain=replace(distilled.gain, value=-0.05))
    refuse_loss(worse, 0.1)
    with pytest.raises(UserError, match="loses 0.0500 in accuracy") as refusal:
        refuse_loss(worse, 0.01)
    assert refusal.value.code is ExitCode.EXPORT
    assert distilled.folder.is_dir()
    # A finished student is only read.
    options = ["--epochs", "6", "--learning-rate", "1e-3", "--tolerance", "1"]
    main(["distill", str(teacher), "--layers", "1", "--unlabeled", str(texts), *options])
    assert "ms a text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message", "code"),
    [
        (("--layers", "2"), "must be from 1 to 1", ExitCode.CONFIG),
        (("--layers", "1", "--int8"), "--int8 goes with --onnx", ExitCode.CONFIG),
        (("--layers", "0"), "must be a whole number", ExitCode.CONFIG),
    ],
)
def test_what_cannot_be_is_refused(
    pair: tuple[Path, Distilled, Path],
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    message: str,
    code: ExitCode,
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["distill", str(pair[0]), *more])
    assert caught.value.code == code
    assert message in capsys.readouterr().err


def test_a_teacher_that_knows_every_row_is_refused(
    pair: tuple[Path, Distilled, Path], tmp_path: Path
) -> None:
    about = json.loads((pair[0] / "run.json").read_text())
    folder = tmp_path / "folds"
    folder.mkdir()
    for name in ("config.yaml", "metrics.json"):
        (folder / name).write_text((pair[0] / name).read_text())
    (folder / "run.json").write_text(json.dumps({**about, "folds": 4}))
    with pytest.raises(UserError, match="has learned from every row"):
        distill(folder, DistillRequest(1))


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_in_the_same_weights_to_the_bit(
    typed: Typed, tmp_path: Path
) -> None:
    words = typed("strategy.epochs=1", "training.checkpoint_minutes=0")
    teacher = run(compose(*words, f"run_dir={tmp_path / 'teacher'}")).folder
    texts = str(write_csv(tmp_path / "texts.csv", make_rows(60, seed=11)))
    request = DistillRequest(1, tmp_path / "unbroken", texts, epochs=2)
    unbroken = distill(teacher, request).folder
    command = ["distill", str(teacher), "--layers", "1", "--epochs", "2", "--out", "killed"]
    command += ["--unlabeled", texts, "--force"]
    killed = start(command, tmp_path, DISTILLING, DIE_AT="30")
    assert killed.returncode == -signal.SIGKILL
    again = start(command, tmp_path, DISTILLING)
    assert again.returncode == 0, again.stderr
    steps = [int(step) for step in (tmp_path / "steps").read_text().split()]
    assert 0 < steps[30] < 30
    weights = [load_file(p / "model/model.safetensors") for p in (unbroken, Path("killed"))]
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[1])


@pytest.mark.slow
def test_two_processes_learn_from_a_teacher_what_one_does(
    pair: tuple[Path, Distilled, Path], typed: Typed, tmp_path: Path
) -> None:
    teacher, _, texts = pair
    stage = {"loss": "distillation", "teacher": teacher, "unlabeled": texts, "epochs": 1}
    words = typed("checkpoint.dropout=0", "checkpoint.pooling=mean")
    words += [f"strategy.stages.all.{name}={value}" for name, value in stage.items()]
    assert largest_difference_of_two_processes(words, tmp_path) < 1e-4
