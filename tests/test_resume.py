"""A run that was killed goes on, and ends in the very weights of the unbroken run."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_rows, write_csv
from prepared_runs import prepare
from training_process import difference, kill_in_step, start, tell_at_step

from nlp_transfer import compose, run
from nlp_transfer.config.loading import read_config
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.training.optimization.checkpointing import (
    is_whole,
    keep_newest,
    newest_whole,
    seal,
)
from nlp_transfer.training.optimization.signals import handle_signals
from nlp_transfer.training.optimization.trainer import StageTrainer

Typed = Callable[..., list[str]]
# Second stage, second epoch, in its middle: 7 steps an epoch, two micro-batches a step.
IN_THE_MIDDLE = 2 * 7 * 2 + 7 * 2 + 5
SLOWLY = ("strategy=two_phase", "strategy.epochs=2", "checkpoint.dropout=0.1")
SLOWLY += ("training.micro_batch_size=8", "training.checkpoint_minutes=0")
# The last weights are to be the same, not those of an epoch before the kill.
SLOWLY += ("training.keep_best=false", "strategy.learning_rate=5e-4")


def test_killed_in_mid_epoch_of_the_second_stage_it_ends_in_the_same_weights_to_the_bit(
    typed: Typed, tmp_path: Path
) -> None:
    words = typed(*SLOWLY)
    unbroken = run(compose(*words, "run_dir=unbroken"))
    report = tmp_path / "steps"
    assert kill_in_step([*words, "run_dir=killed"], IN_THE_MIDDLE, report) == -signal.SIGKILL
    before = report.read_text().split()
    assert len(before) == IN_THE_MIDDLE
    again = start([*words, "run_dir=killed"], tmp_path)
    assert again.returncode == 0, again.stderr
    assert "stage head is finished already" in again.stderr
    assert "resumes from step 9 of 14" in again.stderr
    after = report.read_text().split()[len(before) :]
    assert after == [str(step) for step in range(9, 14) for _ in range(2)]
    assert difference(unbroken.folder, Path("killed")) == 0.0
    one, two = (json.loads(Path(p, "metrics.json").read_text()) for p in ("unbroken", "killed"))
    assert one == two
    logs = [json.loads(Path(p, "run.json").read_text())["stages"] for p in ("unbroken", "killed")]
    assert [stage["best"] for stage in logs[0]] == [stage["best"] for stage in logs[1]]
    assert not Path("killed/checkpoints").exists()


@pytest.mark.slow
def test_it_is_the_plan_that_makes_the_weights_the_same(typed: Typed, tmp_path: Path) -> None:
    words = typed(*SLOWLY, "strategy=full", "strategy.epochs=2")
    grouped = {"GROUPED": "1"}
    assert start([*words, "run_dir=unbroken"], tmp_path, **grouped).returncode == 0
    assert start([*words, "run_dir=killed"], tmp_path, DIE_AT="19", **grouped).returncode < 0
    assert start([*words, "run_dir=killed"], tmp_path, **grouped).returncode == 0
    assert difference(Path("unbroken"), Path("killed")) > 0.0


@pytest.mark.parametrize(
    "by", [signal.SIGTERM, signal.SIGINT, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)]
)
def test_a_stage_that_is_told_to_stop_saves_leaves_and_goes_on(
    by: signal.Signals, typed: Typed, tmp_path: Path
) -> None:
    words = typed("strategy.epochs=2", "strategy.learning_rate=5e-4", "training.keep_best=false")
    interrupted = prepare(words, tmp_path / "run")
    tell_at_step(interrupted, 9, by)
    with (
        handle_signals(),
        pytest.raises(UserError, match=f"{by.name} after step 9. The same") as stopped,
    ):
        interrupted.train()
    assert stopped.value.code is ExitCode.STOPPED
    assert [path.name for path in (tmp_path / "run/checkpoints/0-all").iterdir()] == [
        "checkpoint-9"
    ]
    again = prepare(words, tmp_path / "run", overwrite=False)
    assert again.train()[0].steps == 14
    unbroken = prepare(words, tmp_path / "unbroken")
    unbroken.train()
    one, two = again.weights(), unbroken.weights()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_second_ctrl_c_does_not_wait(typed: Typed, tmp_path: Path) -> None:
    prepared = prepare(typed("strategy.epochs=2"), tmp_path / "run")
    tell_at_step(prepared, 3, signal.SIGINT)
    tell_at_step(prepared, 3, signal.SIGINT)
    with handle_signals(), pytest.raises(KeyboardInterrupt):
        prepared.train()


def test_before_the_first_step_a_signal_ends_the_run_at_once() -> None:
    with (
        handle_signals(),
        pytest.raises(UserError, match="SIGTERM before the next step") as stopped,
    ):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.code is ExitCode.STOPPED
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_a_library_takes_for_an_error_of_its_own_ends_the_run_as_itself() -> None:
    with pytest.raises(UserError, match="Stopped by SIGTERM") as stopped, handle_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception as error:
            raise UserError(ExitCode.CONFIG, "the configuration is wrong") from error
    assert stopped.value.code is ExitCode.STOPPED


@pytest.mark.slow
def test_a_command_that_is_told_to_stop_leaves_with_a_code_of_its_own(
    typed: Typed, tmp_path: Path
) -> None:
    words = [*typed("strategy.epochs=2", "training.keep_best=false"), "run_dir=mine"]
    interrupted = start(words, tmp_path, DIE_AT="9", BY="SIGTERM")
    assert interrupted.returncode == ExitCode.STOPPED, interrupted.stderr
    assert (
        "Stopped by SIGTERM after step 9. The same command continues from there."
        in interrupted.stderr
    )
    assert "Traceback" not in interrupted.stderr
    result = run(compose(*words))
    unbroken = run(compose(*words[:-1], "run_dir=unbroken"))
    assert difference(result.folder, unbroken.folder) == 0.0


def test_early_stopping_that_had_ended_a_stage_does_not_go_on(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A rate of next to nothing: the first epoch is as good as it gets.
    words = typed("strategy.learning_rate=1e-12", "strategy.epochs=9", "training.early_stopping=2")
    words.append("training.checkpoint_minutes=0")
    prepared = prepare(words, tmp_path / "unbroken")
    unbroken = prepared.train()[0]
    assert unbroken.steps == 21

    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    prepared = prepare(words, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("nlp_transfer.training.stages.history.write_after", power_cut)
        with pytest.raises(KeyboardInterrupt):
            prepared.train()
    prepared = prepare(words, tmp_path / "run", overwrite=False)
    again = prepared.train()[0]
    assert (again.steps, again.best) == (unbroken.steps, unbroken.best)


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def test_a_damaged_checkpoint_is_left_out_whichever_of_its_files_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    for step in (1, 2):
        folder = home / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in ("model.safetensors", "optimizer.pt", "rng_state.pth"):
            (folder / name).write_bytes(bytes(range(100)))
        (folder / "trainer_state.json").write_text("{}")
        seal(folder)
    assert newest_whole(home) == home / "checkpoint-2"
    for file in sorted((home / "checkpoint-2").iterdir()):
        spoilt = tmp_path / "spoilt"
        shutil.copytree(home, spoilt)
        damage(spoilt / "checkpoint-2" / file.name)
        with caplog.at_level("INFO", logger="nlp_transfer"):
            assert newest_whole(spoilt) == spoilt / "checkpoint-1"
        assert "checkpoint-2 is" in caplog.text
        caplog.clear()
        shutil.rmtree(spoilt)
    (home / "checkpoint-2" / "optimizer.pt").unlink()
    assert newest_whole(home) == home / "checkpoint-1"
    damage(home / "checkpoint-1" / "model.safetensors")
    assert newest_whole(home) is None
    keep_newest(home, 0)
    assert not list(home.iterdir())


def test_with_the_newest_checkpoint_damaged_the_one_before_gives_the_same_weights(
    typed: Typed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = typed(*SLOWLY, "strategy=full", "strategy.epochs=2")
    unbroken = prepare(words, tmp_path / "unbroken")
    unbroken.train()
    interrupted = prepare(words, tmp_path / "run")
    tell_at_step(interrupted, 2 * 9, signal.SIGTERM)
    with handle_signals(), pytest.raises(UserError, match="SIGTERM after step 9"):
        interrupted.train()
    home = tmp_path / "run/checkpoints/0-all"
    assert {path.name for path in home.iterdir()} == {"checkpoint-8", "checkpoint-9"}
    damage(home / "checkpoint-9/optimizer.pt")
    again = prepare(words, tmp_path / "run", overwrite=False)
    with caplog.at_level("INFO", logger="nlp_transfer"):
        again.train()
    assert "checkpoint-9 is damaged (optimizer.pt): it is ignored" in caplog.text
    assert "resumes from step 8 of 14" in caplog.text
    one, two = again.weights(), unbroken.weights()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_newest_checkpoints_are_kept_and_half_written_ones_go(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for step in (1, 2, 3, 4):
        folder = home / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text("{}")
        seal(folder)
    (home / "checkpoint-5").mkdir()  # killed while it was written
    keep_newest(home, 2)
    assert {path.name for path in home.iterdir()} == {"checkpoint-3", "checkpoint-4"}


def test_the_best_epoch_survives_a_kill_and_no_epoch_writes_a_checkpoint(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Validation contradicts train: the first epoch is the best, far behind when the process dies.
    other = {"positive": "negative", "negative": "positive"}
    rows = [(text, other[label]) for text, label in make_rows(60, seed=1)]
    contrary = f"dataset.validation={write_csv(tmp_path / 'contrary.csv', rows)}"
    short = ("strategy.epochs=8", "strategy.learning_rate=1e-3", "evaluation.best=log_loss")
    words = typed(*short, contrary)
    words += ["checkpoint.dropout=0", "training.batch_size=8"]
    unbroken = prepare(words, tmp_path / "unbroken")
    written = []
    save = StageTrainer._save_checkpoint
    monkeypatch.setattr(
        StageTrainer, "_save_checkpoint", lambda *a: (written.append(a[0]), save(*a))
    )
    history = unbroken.train()[0]
    assert not written
    looks = [entry["eval_log_loss"] for entry in history.log if "eval_log_loss" in entry]
    assert history.best < looks[-1]
    interrupted = prepare(words, tmp_path / "run")
    tell_at_step(interrupted, 90, signal.SIGTERM)
    with handle_signals(), pytest.raises(UserError, match="SIGTERM after step 90"):
        interrupted.train()
    again = prepare(words, tmp_path / "run", overwrite=False)
    assert again.train()[0].best == history.best
    one, two = again.weights(), unbroken.weights()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_checkpoint_without_a_seal_is_half_written(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"half")
    assert not is_whole(folder)
    assert newest_whole(tmp_path) is None
    assert not is_whole(tmp_path / "nothing")


def test_a_disk_that_is_full_while_saving_keeps_the_checkpoint_before(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = typed("strategy.epochs=3", "training.checkpoint_minutes=0")
    prepared = prepare(words, tmp_path / "run")
    home = tmp_path / "run/checkpoints/0-all"
    save, calls = torch.save, []

    def full(*arguments: object, **named: object) -> None:
        calls.append(arguments)
        if len(calls) > 5:  # the second checkpoint's optimizer
            raise OSError(28, "No space left on device")
        save(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(UserError, match="No space left on device") as stopped:
            prepared.train()
    assert stopped.value.code is ExitCode.RUN_FOLDER
    assert [path.name for path in home.iterdir()] == ["checkpoint-1"]
    history = prepare(words, tmp_path / "run", overwrite=False).train()[0]
    assert history.steps == 21


def test_running_out_of_memory_says_at_which_step_and_what_to_try(
    typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed("strategy.epochs=1"), tmp_path / "run")

    def full(*_: object) -> None:
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("out of memory")

    prepared.pretrained.model.bert.encoder.layer[1].register_forward_pre_hook(full)
    with pytest.raises(UserError, match=r"Step 1 does not fit.*micro_batch_size=auto") as stopped:
        prepared.train()
    assert stopped.value.code is ExitCode.MACHINE


def test_a_signal_while_the_report_is_drawn_stops_a_run_that_would_upload(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    (folder / "report.html").unlink()
    config = replace(read_config(folder / "config.yaml"), run_dir=str(folder))
    published = []
    monkeypatch.setattr("nlp_transfer.pipeline.publish", lambda *_: published.append(1))
    with monkeypatch.context() as patch:
        send_signal = lambda _: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        patch.setattr("nlp_transfer.reporting.html.report.page", send_signal)
        with handle_signals(), pytest.raises(UserError, match="Stopped by SIGTERM") as stopped:
            run(config)
        assert stopped.value.code is ExitCode.STOPPED
        assert not published
        # Whatever else goes wrong while it is drawn, the model is there.
        patch.setattr("nlp_transfer.reporting.html.report.page", lambda _: 1 / 0)
        run(config)
        assert published
    run(config)
    assert (folder / "report.html").is_file()


def test_a_stage_that_took_seconds_leaves_its_weights_to_a_later_one(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = typed("strategy=two_phase", "strategy.epochs=1")
    unbroken = prepare(words, tmp_path / "run")
    unbroken.train()
    homes = [tmp_path / "run/checkpoints" / name for name in ("0-head", "1-all")]
    assert [(home / "after/model.safetensors").is_file() for home in homes] == [False, True]
    again = prepare(words, tmp_path / "run", overwrite=False)
    ran = []
    monkeypatch.setattr("nlp_transfer.training.loop.run_stage", ran.append)
    assert [stage.steps for stage in again.train()] == [7, 7]
    assert not ran
    # Without the weights, all of it runs again.
    (homes[1] / "after/model.safetensors").unlink()
    monkeypatch.undo()
    once_more = prepare(words, tmp_path / "run", overwrite=False)
    once_more.train()
    for other in (again, once_more):
        weights = other.weights()
        assert all(torch.equal(weights[name], w) for name, w in unbroken.weights().items())


@pytest.mark.slow
def test_a_run_that_has_trained_but_not_exported_does_not_train_again(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = compose(*typed("strategy=two_phase", "strategy.epochs=1", "run_dir=mine"))

    def power_cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nlp_transfer.pipeline.export", power_cut)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    with caplog.at_level("INFO", logger="nlp_transfer"):
        run(config)
    assert caplog.text.count("is finished already") == 2
    stages = json.loads(Path("mine/run.json").read_text())["stages"]
    assert [stage["steps"] for stage in stages] == [7, 7]
