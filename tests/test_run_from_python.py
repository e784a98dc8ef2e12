"""`run` takes data, metrics, callbacks and a loss from memory; they are part of what the run is."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import QUIETLY, last_of_each, make_rows, without_addresses
from datasets import Dataset
from transformers import TrainerCallback

from nlp_transfer import Loss, Metric, Result, UserError, compose, run
from nlp_transfer.analysis.reproduce import repeat
from nlp_transfer.cli.main import main
from nlp_transfer.config.schema import Config
from nlp_transfer.data.memory import with_tables
from nlp_transfer.errors import ExitCode
from nlp_transfer.pipeline import Fitted, fit, prepare, run_and_print, set_up
from nlp_transfer.runs.folder import open_run
from nlp_transfer.training.extensions import Extensions, with_loss

TRAIN = pd.DataFrame(make_rows(64), columns=["body", "queue"])
VALIDATION = Dataset.from_pandas(pd.DataFrame(make_rows(32, 1), columns=["body", "queue"]))
DATA = {"train": TRAIN, "validation": VALIDATION}
COLUMNS = ("dataset.text=body", "dataset.label=queue")
QUICK = ("strategy=full", "strategy.epochs=2", "strategy.min_steps=0", "evaluation.folds=0")


def agreement(references: np.ndarray, decisions: np.ndarray) -> float:
    return float((references == decisions).mean())


def disagreement(references: np.ndarray, decisions: np.ndarray) -> float:
    return float((references != decisions).mean())


LOWER = Metric.from_callable(disagreement, greater_is_better=False)


class Tracker(TrainerCallback):
    """Counts the trainings and steps of which it hears."""

    def __init__(self) -> None:
        self.trainings = self.steps = 0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.trainings += 1

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps += 1


def focal(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    entropy = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    return (1 - torch.exp(-entropy)) ** 2 * entropy


@pytest.fixture(scope="module")
def make_config(checkpoints: dict[str, Path]) -> Callable[..., Config]:
    """A configuration that trains a tiny checkpoint and names no data."""

    def make(*more: str) -> Config:
        name = f"checkpoint.name={checkpoints['bert']}"
        words = last_of_each("+task=classify", name, *QUIETLY, *COLUMNS, *QUICK, *more)
        return compose(*words)

    return make


def fitted(config: Config, folder: str, data: Any = DATA, **code: Any) -> Fitted:
    """A run without its export."""
    extensions = Extensions.of(**code)
    config = with_loss(with_tables(replace(config, run_dir=folder), data), extensions.loss)
    setup = set_up(config, data, extensions)
    with open_run(config, setup.corpus.fingerprint, setup.process, setup.code) as opened:
        return fit(prepare(setup, opened))


@pytest.fixture(scope="module")
def complete(
    make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Result, Tracker, Config]:
    """A run with everything that can be given."""
    tracker = Tracker()
    folder = tmp_path_factory.mktemp("given") / "run"
    config = make_config(f"run_dir={folder}", "evaluation.best=disagreement")
    result = run(config, DATA, [agreement, LOWER], [tracker], focal)
    return result, tracker, config


def test_a_frame_a_dataset_metrics_a_callback_and_a_loss_make_one_run(
    complete: tuple[Result, Tracker, Config],
) -> None:
    result, tracker, config = complete
    figures = result.metrics["validation"]["metrics"]
    assert figures["agreement"] == figures["accuracy"]
    assert figures["disagreement"] == pytest.approx(1 - figures["accuracy"])
    assert (result.chosen_by, result.best) == ("disagreement", figures["disagreement"])
    assert (tracker.trainings, tracker.steps) == (1, 8)
    about = json.loads((result.folder / "run.json").read_text())
    names = ["metric agreement", "metric disagreement", "callback Tracker", "loss focal"]
    assert list(about["code"]) == names
    assert (
        "disagreement" in about["lower_is_better"] and "agreement" not in about["lower_is_better"]
    )
    # The same again is finished; anything else is another run.
    again = run(config, DATA, [agreement, LOWER], [Tracker()], focal)
    assert again.previous_state == "finished" and again == result
    others: list[tuple[dict[str, Any], str]] = [
        ({"loss": None}, "training.loss .*the loss focal .there alone"),
        ({"metrics": [LOWER]}, "the metric agreement .there alone"),
        ({"callbacks": [tracker]}, "the callback Tracker .its code or content has changed"),
        ({"data": {**DATA, "train": TRAIN[:60]}}, "the data .the texts or labels have changed"),
    ]
    for changed, message in others:
        call = {"data": DATA, "metrics": [agreement, LOWER], "callbacks": [Tracker()]}
        with pytest.raises(UserError, match=message) as caught:
            run(config, **{**call, "loss": focal, **changed})
        assert caught.value.code is ExitCode.RUN_FOLDER


def test_without_a_run_dir_the_folder_is_named_by_data_and_code(
    make_config: Callable[..., Config],
) -> None:
    config = make_config("dry_run=true")
    plain = run(config, DATA).folder
    assert run(config, {**DATA, "train": TRAIN.to_dict("records")}).folder == plain
    folders = {
        plain,
        run(config, {**DATA, "train": TRAIN[:60]}).folder,
        run(config, DATA, [agreement]).folder,
        run(config, DATA, callbacks=[Tracker]).folder,
        run(config, DATA, loss=focal).folder,
    }
    assert len(folders) == 5


def test_a_result_shows_itself_in_a_line_a_summary_and_a_table(
    complete: tuple[Result, Tracker, Config], capsys: pytest.CaptureFixture[str]
) -> None:
    result = complete[0]
    value = result.metrics["validation"]["metrics"]["disagreement"]
    assert repr(result).startswith(f"Result({result.folder}, disagreement {value:.3f} [")
    assert repr(result).endswith("] on validation, 32 rows)")
    assert "Model: " in str(result) and "disagreement" in str(result)
    table = result._repr_html_()
    assert f"<th>disagreement</th><td>{value:.3f} [" in table and "(32 rows)" in table
    result.show()
    assert capsys.readouterr().out == f"Report: {result.folder / 'report.html'}\n"
    assert Result.read(result.folder) == result
    with pytest.raises(UserError, match="no run.json"):
        Result.read("nowhere")


def test_reports_and_card_know_what_was_given(complete: tuple[Result, Tracker, Config]) -> None:
    result = complete[0]
    report = (result.folder / "report.html").read_text()
    assert "tables given from Python" in report
    assert "nlp-transfer repeat" not in report
    assert "disagreement is" in report and "lower is better" in report
    card = (result.model / "README.md").read_text()
    assert "tables given from Python" in card
    assert 'compose("+task=repeat", config_dir="mine"), data=' in card


def test_commands_that_read_the_data_again_say_what_they_need(
    complete: tuple[Result, Tracker, Config], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = str(complete[0].folder)
    needs = {
        ("suspects", folder): r"given from Python.*find_suspects\(Path\(FOLDER\), data=",
        ("export", folder, "--onnx"): "given from Python.*--data FILE --text COLUMN",
        ("repeat", folder): r"given from Python.*its data, .*the loss focal.*repeat\(Path",
    }
    for command, message in needs.items():
        with pytest.raises(SystemExit):
            main(command)
        assert re.search(message, capsys.readouterr().err)
    TRAIN.to_csv(tmp_path / "more.csv")
    main(["evaluate", folder, "--data", str(tmp_path / "more.csv")])
    printed = capsys.readouterr().out
    assert "Not measured here: agreement, disagreement" in printed and "accuracy" in printed
    main(["report", folder])
    with pytest.raises(SystemExit):
        main(["compare", folder, folder])
    assert "cannot be compared by the metric 'disagreement'" in capsys.readouterr().err


def test_a_run_repeats_where_the_same_is_given_again(
    complete: tuple[Result, Tracker, Config],
) -> None:
    folder = complete[0].folder
    with pytest.raises(UserError, match="its data, .*the loss focal .there alone"):
        repeat(folder, Path("again"))
    code = ([agreement, LOWER], [Tracker()], focal)
    with pytest.raises(UserError, match="corpus: .* there"):
        repeat(folder, Path("again"), {**DATA, "train": TRAIN[:60]}, *code)
    assert not repeat(folder, Path("again"), DATA, *code).changed


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


@pytest.mark.parametrize(
    "loss",
    [cross_entropy, torch.nn.CrossEntropyLoss(reduction="none"), "cross_entropy"],
    ids=["function", "module", "name"],
)
def test_the_same_loss_gives_the_same_weights_whoever_computes_it(
    make_config: Callable[..., Config], loss: Any
) -> None:
    usual = fitted(make_config(), "usual").model.state_dict()
    config = make_config() if not isinstance(loss, str) else make_config(f"training.loss={loss}")
    other = fitted(config, "other", loss=None if isinstance(loss, str) else loss)
    for name, weight in other.model.state_dict().items():
        torch.testing.assert_close(weight, usual[name], rtol=0, atol=0)
    changed = fitted(make_config(), "changed", loss=focal).model.state_dict()
    assert any(not torch.equal(changed[name], usual[name]) for name in usual)


def test_a_loss_of_several_labels_or_scores_gets_answers_in_the_shape_of_the_logits(
    make_config: Callable[..., Config],
) -> None:
    shapes = []

    def squared(logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        shapes.append((tuple(logits.shape), tuple(answers.shape), answers.dtype))
        return (logits - answers) ** 2

    several = TRAIN.assign(queue=[[label, "any"] for label in TRAIN["queue"]])
    scores = TRAIN.assign(queue=np.linspace(0, 1, 64))
    for name, frame, width in (("several", several, 3), ("scores", scores, 1)):
        shapes.clear()
        # A closure over a list that the run changes has another digest each time.
        fitted(make_config(), name, {"train": frame}, loss=squared)
        assert ((16, width), (16, width), torch.float32) in shapes


@pytest.mark.parametrize(
    ("code", "more", "expected"),
    [
        ({"loss": torch.nn.CrossEntropyLoss()}, (), r"gave \[\] for \d+ rows; .*reduction='none'"),
        ({"loss": lambda *_: 0}, (), "has no name.*Loss.from_callable"),
        ({"loss": focal}, ("training.label_smoothing=0.1",), "label_smoothing=0.1 has no effect"),
        ({"loss": focal}, ("training.class_weights=balanced",), "class_weights=balanced has no"),
        ({"metrics": ["f1"]}, (), r"metrics has 'f1'; .*named in evaluation.metrics"),
        ({"metrics": [agreement, agreement]}, (), "has a second 'agreement'"),
        ({"callbacks": [print]}, (), "expected instances of transformers.TrainerCallback"),
        ({"metrics": [agreement]}, ("evaluation.best=agrement",), "must be one of.*agreement"),
    ],
    ids=lambda value: without_addresses(value)[:40],
)
def test_what_cannot_be_used_is_refused_with_what_to_do(
    make_config: Callable[..., Config], code: dict[str, Any], more: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        fitted(make_config(*more), "run", **code)
    assert caught.value.code is ExitCode.CONFIG


def test_a_loss_with_options_reads_them(make_config: Callable[..., Config]) -> None:
    smoothing = []

    def smoothed(logits: torch.Tensor, answers: torch.Tensor, options: Any) -> torch.Tensor:
        smoothing.append(options.label_smoothing)
        return cross_entropy(logits, answers[:, 0].long())

    fitted(make_config("training.label_smoothing=0.2"), "run", loss=Loss("smoothed", smoothed))
    assert 0.2 in smoothing


def test_each_fold_calls_copies_of_the_callbacks_and_the_final_model_the_callbacks(
    make_config: Callable[..., Config],
) -> None:
    instances = []

    class Counted(Tracker):
        def __deepcopy__(self, _: Any) -> Counted:
            instances.append(Counted())
            return instances[-1]

    final = Counted()
    fitted(make_config("evaluation.folds=2"), "run", {"train": TRAIN}, callbacks=[final])
    trained = [callback for callback in instances if callback.trainings]
    assert [(callback.trainings, callback.steps) for callback in trained] == [(1, 4), (1, 4)]
    assert (final.trainings, final.steps) == (1, 8)


class Locked(Tracker):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_code_without_content_asks_for_a_run_dir(make_config: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match="The callback Locked cannot be hashed.*run_dir=") as caught:
        run(make_config(), DATA, callbacks=[Locked()])
    assert caught.value.code is ExitCode.CONFIG
    callback = Locked()
    fitted(make_config(), "run", callbacks=[callback])
    assert callback.steps == 8
    with pytest.raises(UserError, match="cannot be copied for the folds"):
        fitted(make_config("evaluation.folds=2"), "folds", {"train": TRAIN}, callbacks=[callback])


class Impatient(TrainerCallback):
    def on_step_end(self, *args: Any, **_: Any) -> Any:
        args[2].should_evaluate = True
        return args[2]


def test_a_callback_that_wants_an_evaluation_without_validation_is_told_so(
    make_config: Callable[..., Config],
) -> None:
    with pytest.raises(UserError, match="no validation split"):
        fitted(make_config("evaluation.folds=2"), "run", {"train": TRAIN}, callbacks=[Impatient])


def test_what_had_no_effect_is_said(
    make_config: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("nlp_transfer")
    logger.addHandler(caplog.handler)
    config = replace(make_config(), strategy=compose("+task=classify", *SOLVED).strategy)
    fitted(config, "run", callbacks=[Tracker()], loss=focal)
    logger.removeHandler(caplog.handler)
    lines = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert any("callbacks were not called: no stage learns by gradient" in x for x in lines)
    assert any("The loss focal has no effect: no stage learns by" in x for x in lines)


SOLVED = ("strategy=feature_extraction",)


def test_run_prints_nothing_and_its_result_the_summary_once(
    complete: tuple[Result, Tracker, Config], capsys: pytest.CaptureFixture[str]
) -> None:
    config = complete[2]
    result = run(config, DATA, [agreement, LOWER], [Tracker()], focal)
    assert capsys.readouterr().out == ""
    assert str(result).count("Model: ") == 1
    printed = run_and_print(config, DATA, [agreement, LOWER], [Tracker()], focal)
    assert capsys.readouterr().out.strip() == str(printed)


def test_overrides_in_place_of_a_configuration_are_told_what_to_type() -> None:
    with pytest.raises(UserError, match=r"found list. Type run\(compose\("):
        run(["+task=classify"])  # type: ignore[arg-type]
