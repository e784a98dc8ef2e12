"""The training command: what it prints, its exit codes, and which files it leaves."""

from __future__ import annotations

import errno
import fcntl
import functools
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_rows, write_csv
from omegaconf import OmegaConf

from nlp_transfer.cli.train import main
from nlp_transfer.config.composition import compose
from nlp_transfer.config.groups import CONFIG_MODULE, GROUPS
from nlp_transfer.config.loading import default_tree
from nlp_transfer.config.schema import NOT_PART_OF_THE_RESULT, Config
from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.config.sections.strategy import StageConfig, StrategyConfig
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.runs.folder import State, open_run
from nlp_transfer.runs.identity import changed_settings, run_path
from nlp_transfer.runs.names import LOCK_FILE, RUN_FILE
from nlp_transfer.utils.distributed import ProcessContext

ALONE = ProcessContext(rank=0, world_size=1, device=torch.device("cpu"))
Typed = Callable[..., list[str]]
SAME = ("+task=sentiment", "run_dir=run")


@dataclass(frozen=True)
class Outcome:
    """What a person sees of one command."""

    code: int
    out: str
    err: str
    new_files: set[str]  # files and folders that were not there before

    def refused(self, code: ExitCode, *words: str) -> str:
        """The one message, checked: its code, its place, no traceback, and what it says."""
        assert self.code == code, self.err
        assert "Traceback" not in self.err + self.out
        assert [line.startswith("Error: ") for line in self.err.splitlines()].count(True) == 1
        message = self.err[self.err.index("Error: ") :]
        assert [part for part in words if part not in message] == [], message
        return message


def tree(folder: Path) -> set[str]:
    """Everything below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def train(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Outcome]]:
    """Types a command line, in this process."""

    def run_command(*arguments: str) -> Outcome:
        before = tree(Path.cwd())
        # A process that has just started has no handlers, and one of ours keeps its stderr.
        logging.getLogger("nlp_transfer").handlers.clear()
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as leaving:
            assert leaving.code is None or isinstance(leaving.code, int)
            code = leaving.code or 0
        output = capfd.readouterr()
        return Outcome(code, output.out, output.err, tree(Path.cwd()) - before)

    yield run_command
    logging.getLogger("nlp_transfer").handlers.clear()


@contextmanager
def opened(*overrides: str, fingerprint: str = "corpus") -> Iterator[State]:
    """The run of a configuration on some corpus, opened for as long as the context lasts."""
    with open_run(compose(*overrides), fingerprint, ALONE) as folder:
        yield folder.state


def refused_run(*overrides: str, fingerprint: str = "corpus") -> str:
    """The message with which a run folder is refused; nothing in it changes."""
    before = contents()
    with pytest.raises(UserError) as refused, opened(*overrides, fingerprint=fingerprint):
        pass
    assert refused.value.code is ExitCode.RUN_FOLDER
    assert contents() == before
    return str(refused.value)


def contents() -> dict[str, bytes]:
    """Every file below the current folder."""
    files = [path for path in Path.cwd().rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in files}


def in_a_process(*arguments: str) -> Outcome:
    """Types a command line in a process of its own, as a person does."""
    before = tree(Path.cwd())
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    return Outcome(done.returncode, done.stdout, done.stderr, tree(Path.cwd()) - before)


def test_without_a_task_it_says_what_to_type() -> None:
    outcome = in_a_process("-m", "nlp_transfer.train")
    message = outcome.refused(ExitCode.CONFIG, "+task=sentiment", "--help")
    assert outcome.err == message  # nothing before it
    assert outcome.new_files == set()


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_option_of_every_group(flag: str, train: Callable[..., Outcome]) -> None:
    outcome = train(flag)
    assert (outcome.code, outcome.err, outcome.new_files) == (0, "", set())
    listed = [line.split()[0] for line in outcome.out.splitlines() if line.startswith("  ")]
    for group in GROUPS:
        files = Path(str(resources.files(CONFIG_MODULE).joinpath(group))).glob("*.yaml")
        assert [file.stem for file in files if file.stem not in listed] == []
        assert f"{group}=NAME" in outcome.out


def test_help_and_mistakes_do_not_wait_for_torch() -> None:
    typed = [
        ["--help"],
        [],
        ["+task=nothing"],
        ["+task=sentiment", "training.bach_size=3"],
        ["+task=sentiment", "seed=x"],
        ["+task=sentiment", "strategy.top_layers=2"],
        ["+task=classify", "dataset.train=absent.csv"],
        ["+task=sentiment", "dataset=files", "dataset.train=one.csv", "dataset.text=body"],
        ["+task=sentiment", "checkpoint.name=/absent/model"],
        ["+task=sentiment", "evaluation.metrics=[accurcy]"],
        ["+task=sentiment", "--config-dir", "absent"],
    ]
    Path("one.csv").write_text("text,label\n")
    script = f"""
import sys
from nlp_transfer.cli.train import help_text, main
help_text()
for arguments in {typed!r}:
    sys.argv = ["train", *arguments]
    try:
        main()
    except SystemExit:
        pass
    print("torch" in sys.modules, "transformers" in sys.modules, arguments, file=sys.stderr)
"""
    outcome = in_a_process("-c", script)
    lines = [line for line in outcome.err.splitlines() if line.startswith(("True ", "False "))]
    assert lines == [f"False False {arguments}" for arguments in typed]
    assert outcome.err.count("Error: ") == len(typed) - 1


def test_the_whole_configuration_can_be_printed(train: Callable[..., Outcome]) -> None:
    outcome = train(
        "+task=sentiment", "strategy=two_phase", "training.batch_size=7", "--cfg", "job"
    )
    assert (outcome.code, outcome.err, outcome.new_files) == (0, "", set())
    for section, value in default_tree().items():
        assert re.search(rf"^{section}:", outcome.out, re.MULTILINE)
        for key in value if isinstance(value, dict) else ():
            assert re.search(rf"^  {key}:", outcome.out, re.MULTILINE), f"{section}.{key}"
    assert "  batch_size: 7\n" in outcome.out
    assert "name: two_phase\n" in outcome.out


def test_an_unknown_task_lists_the_tasks(train: Callable[..., Outcome]) -> None:
    outcome = train("+task=sentimnt")
    outcome.refused(
        ExitCode.CONFIG, "task=sentimnt", "Did you mean sentiment?", "classify, ", "topic"
    )
    assert len(outcome.err.splitlines()) == 1
    assert outcome.new_files == set()


def test_a_misspelt_name_in_a_sweep_starts_none_of_its_runs(train: Callable[..., Outcome]) -> None:
    outcome = train("--multirun", "+task=sentiment", "strategy=full,lor", "seed=1,2")
    outcome.refused(ExitCode.CONFIG, "strategy=lor", "Did you mean lora?")
    assert outcome.new_files == set()


@pytest.mark.parametrize("option", ["checkpoint", "dataset", "strategy"])
@pytest.mark.parametrize("value", ["5", "null", "[1,2]"])
def test_an_option_that_is_no_name_is_one_clear_error(
    option: str, value: str, train: Callable[..., Outcome]
) -> None:
    outcome = train("+task=sentiment", f"{option}={value}")
    outcome.refused(ExitCode.CONFIG, option)
    assert outcome.new_files == set()


@pytest.mark.parametrize("override", ["seed=[", "training.loss=my(1)"])
def test_what_cannot_be_parsed_is_shown(override: str, train: Callable[..., Outcome]) -> None:
    train("+task=sentiment", override).refused(ExitCode.CONFIG, override)


def test_names_of_files_and_columns_need_no_quotes_of_hydra(train: Callable[..., Outcome]) -> None:
    words = ["+task=classify", "dataset.train=Tickets (neu), 2.csv", "dataset.label=Art (alt)"]
    train(*words).refused(ExitCode.DATA, "'Tickets (neu), 2.csv': there is no such file")
    write_csv(Path("Tickets (neu), 2.csv"), [("a text", "a"), ("another", "b")])
    train(*words).refused(ExitCode.DATA, "dataset.label='Art (alt)' is not a column")


def spoilt(rows: list[tuple[str, str]], row: int, text: str, label: str) -> Path:
    """A file of the current folder with one row replaced (counted from 1)."""
    rows[row - 1] = (text, label)
    return write_csv(Path("spoilt.csv"), rows)


def latin1() -> Path:
    """A file in another encoding, where one row has an umlaut."""
    path = Path("spoilt.csv")
    path.write_bytes("text,label\nschön,positive\nhässlich,negative\n".encode("latin-1"))
    return path


def uneven() -> Path:
    """A file in which one row has a cell too many (a comma without quotes)."""
    path = Path("spoilt.csv")
    path.write_text("text,label\nnice,positive\nbad, really,negative\n", encoding="utf-8")
    return path


def one_label() -> Path:
    """A file with nothing to tell apart."""
    return write_csv(Path("spoilt.csv"), [(text, "positive") for text, _ in make_rows(20)])


# What is wrong, in what is typed; the exit code; what the message says.
BEFORE_THE_RUN_FOLDER: dict[str, tuple[Callable[[], list[str]], ExitCode, tuple[str, ...]]] = {
    "missing file": (
        lambda: ["dataset.train=nowhere.csv"],
        ExitCode.DATA,
        ("dataset.train='nowhere.csv'", "no such file"),
    ),
    "missing test file": (
        lambda: ["dataset.test=nowhere.csv"],
        ExitCode.DATA,
        ("dataset.test='nowhere.csv'", "no such file"),
    ),
    "unknown kind of file": (
        lambda: [f"dataset.train={write_csv(Path('texts.docx'), make_rows(9))}"],
        ExitCode.DATA,
        ("texts.docx", ".csv", ".parquet"),
    ),
    "another encoding": (
        lambda: [f"dataset.train={latin1()}"],
        ExitCode.DATA,
        ("spoilt.csv", "UTF"),
    ),
    "uneven rows": (
        lambda: [f"dataset.train={uneven()}"],
        ExitCode.DATA,
        ("spoilt.csv, line 3", "expected 2 cells", "found 3"),
    ),
    "no rows": (
        lambda: [f"dataset.train={write_csv(Path('spoilt.csv'), [])}"],
        ExitCode.DATA,
        ("spoilt.csv", "no rows"),
    ),
    "wrong text column": (
        lambda: ["dataset.text=body"],
        ExitCode.DATA,
        ("dataset.text='body'", "it has text, label", "Set dataset.text"),
    ),
    "wrong label column": (
        lambda: ["dataset.label=stars"],
        ExitCode.DATA,
        ("dataset.label='stars'", "it has text, label", "Set dataset.label"),
    ),
    "unknown label in test": (
        lambda: [f"dataset.test={spoilt(make_rows(9), 4, 'so so', 'neutral')}"],
        ExitCode.DATA,
        ("1 of the 9 rows", "row 4", "'neutral'", "'so so'", "negative, positive"),
    ),
    "empty text": (
        lambda: [f"dataset.train={spoilt(make_rows(9), 3, '  ', 'positive')}"],
        ExitCode.DATA,
        ("1 of the 9 rows", "spoilt.csv", "an empty text", "row 3"),
    ),
    "no label": (
        lambda: [f"dataset.train={spoilt(make_rows(9), 3, 'a text', '')}"],
        ExitCode.DATA,
        ("1 of the 9 rows", "spoilt.csv", "no label", "row 3", "a text"),
    ),
    "one label only": (
        lambda: [f"dataset.train={one_label()}", "dataset.validation=null", "dataset.test=null"],
        ExitCode.DATA,
        ("'positive'", "at least two", "dataset.label"),
    ),
    "names for other labels": (
        lambda: ["dataset.label_names={0: ham, 1: spam}"],
        ExitCode.DATA,
        ("dataset.label_names", "negative, positive"),
    ),
    "unknown metric": (
        lambda: ["evaluation.metrics=[accuracy,f1_mcro]"],
        ExitCode.CONFIG,
        ("evaluation.metrics", "'f1_mcro'", "f1_macro"),
    ),
    "unknown positive label": (
        lambda: ["evaluation.positive_label=nice"],
        ExitCode.CONFIG,
        ("evaluation.positive_label='nice'", "negative, positive"),
    ),
    "run folder below a file": (
        lambda: [f"run_dir={write_csv(Path('file'), [])}/run"],
        ExitCode.RUN_FOLDER,
        ("file/run", "cannot be written", "Set run_dir"),
    ),
    "unknown checkpoint in a dry run": (
        lambda: ["checkpoint.name=nobody/nothing", "dry_run=true"],
        ExitCode.CHECKPOINT,
        ("checkpoint.name='nobody/nothing'", "Check checkpoint.name"),
    ),
    "too long in a dry run": (
        lambda: ["tokenization.max_length=65", "dry_run=true"],
        ExitCode.CONFIG,
        ("tokenization.max_length=65", "64"),
    ),
    "more layers than there are, in a dry run": (
        lambda: ["strategy=top_layers", "strategy.top_layers=3", "dry_run=true"],
        ExitCode.CONFIG,
        ("top 3 layers", "there are 2"),
    ),
}


@pytest.mark.parametrize("mistake", BEFORE_THE_RUN_FOLDER)
def test_a_mistake_is_one_clear_error_and_leaves_nothing(
    mistake: str, typed: Typed, train: Callable[..., Outcome]
) -> None:
    spoil, code, words = BEFORE_THE_RUN_FOLDER[mistake]
    outcome = train(*typed(*spoil()))
    outcome.refused(code, *words)
    assert outcome.new_files == set()


# Found once the run has a folder, which stays, unfinished.
IN_THE_RUN_FOLDER: dict[str, tuple[list[str], ExitCode, tuple[str, ...]]] = {
    "fp16 on a CPU": (
        ["training.precision=fp16"],
        ExitCode.MACHINE,
        ("training.precision=fp16", "GPU", "cpu", "training.precision=auto"),
    ),
    "unknown checkpoint": (
        ["checkpoint.name=nobody/nothing"],
        ExitCode.CHECKPOINT,
        ("checkpoint.name='nobody/nothing'", "Check checkpoint.name"),
    ),
    "too long": (
        ["tokenization.max_length=65"],
        ExitCode.CONFIG,
        ("tokenization.max_length=65", "64"),
    ),
}


@pytest.mark.parametrize("mistake", IN_THE_RUN_FOLDER)
def test_a_mistake_found_late_is_one_clear_error_and_leaves_no_model(
    mistake: str, typed: Typed, train: Callable[..., Outcome]
) -> None:
    spoiling, code, words = IN_THE_RUN_FOLDER[mistake]
    outcome = train(*typed(*spoiling, "run_dir=run"))
    outcome.refused(code, *words)
    assert outcome.new_files <= {"run", f"run/{LOCK_FILE}", "run/config.yaml", f"run/{RUN_FILE}"}
    # Said again, not reported as finished.
    train(*typed(*spoiling, "run_dir=run")).refused(code, *words)


def test_a_mistake_in_the_data_is_one_clear_error_in_a_process_of_its_own(typed: Typed) -> None:
    outcome = in_a_process("-m", "nlp_transfer.train", *typed("dataset.train=nowhere.csv"))
    assert outcome.err == outcome.refused(ExitCode.DATA, "nowhere.csv")
    assert (outcome.out, outcome.new_files) == ("", set())


def test_exit_codes_tell_failures_apart() -> None:
    codes = [int(code) for code in ExitCode]
    # 0 is success, 1 a bug, 130 an interruption.
    assert len(set(codes) - {0, 1, 130}) == len(codes)


def test_a_dry_run_says_the_plan_and_leaves_nothing(
    typed: Typed, train: Callable[..., Outcome]
) -> None:
    outcome = train(*typed("strategy=two_phase", "training.batch_size=10", "dry_run=true"))
    assert (outcome.code, outcome.new_files) == (0, set())
    head, everything, disk, folder = outcome.out.splitlines()
    # 101 rows are 11 steps of 10; a head is a pooler of 32 × 32 and two rows of 32, with biases.
    assert "Stage head learns the head, " in head
    assert f"{32 * 32 + 32 + 2 * 32 + 2:,} of " in head
    assert "22 steps of 10 texts" in head
    learning, whole = re.findall(r"([\d,]+) of\s+([\d,]+) parameters", everything)[0]
    assert learning == whole
    assert "2 epochs, 22 steps of 10 texts" in everything
    assert re.search(r"Disk: \d+ MB in the end, \d+ MB while training", disk)
    assert "Nothing was trained" in folder
    assert "runs/classify-tiny-bert-" in folder


def test_a_key_that_has_no_effect_in_this_run_is_named(
    typed: Typed, train: Callable[..., Outcome]
) -> None:
    keys = ("strategy.learning_rate=1e-4", "training.label_smoothing=0.1")
    keys += ("training.loss=cross_entropy",)
    outcome = train(*typed("strategy=feature_extraction", "dry_run=true", *keys))
    named = "strategy.learning_rate, training.loss, training.label_smoothing have no effect"
    assert named in outcome.out
    assert "no effect" not in train(*typed("strategy=full", "dry_run=true", *keys)).out
    more = ("strategy.adapt_epochs=3", "training.parallel=fsdp", "strategy=full", "dry_run=true")
    lines = train(*typed(*more)).out
    assert "strategy.adapt_epochs has no effect: nothing adapts to texts" in lines
    assert "training.parallel has no effect: there is one process" in lines


def test_epochs_that_are_typed_for_a_stage_are_made(
    typed: Typed, train: Callable[..., Outcome]
) -> None:
    words = [word for word in typed("dry_run=true") if word != "strategy.min_steps=0"]
    assert "strategy.min_steps=0" in typed()
    # 101 rows are 7 steps of 16; strategy.min_steps=100 stretches what nobody has typed.
    assert "15 epochs, 105 steps" in train(*words).out
    assert "2 epochs, 14 steps" in train(*words, "strategy.stages.all.epochs=2").out
    more = ("strategy.stages.all.epochs=2", "strategy.min_steps=21")
    assert "3 epochs, 21 steps" in train(*words, *more).out


def test_a_dry_run_names_the_folder_of_the_run(typed: Typed, train: Callable[..., Outcome]) -> None:
    config = compose(*typed())
    path = run_path(config, load_corpus(config.dataset, config.seed).fingerprint)
    assert f"Run folder: {path}." in train(*typed("dry_run=true")).out


def test_several_dry_runs_leave_nothing(typed: Typed, train: Callable[..., Outcome]) -> None:
    outcome = train("--multirun", *typed("seed=1,2", "dry_run=true"))
    assert (outcome.code, outcome.new_files) == (0, set())
    assert len(set(re.findall(r"Run folder: (\S+)\.", outcome.out))) == 2


def test_one_impossible_run_of_several_is_reported_and_the_others_are_not_lost(
    typed: Typed, train: Callable[..., Outcome]
) -> None:
    outcome = train("--multirun", *typed("training.batch_size=0,7", "dry_run=true"))
    outcome.refused(ExitCode.CONFIG, "training.batch_size=0 must be at least 1")
    assert outcome.new_files == set()
    assert "steps of 7 texts" in outcome.out


def test_a_folder_for_tokens_that_cannot_be_written_is_one_clear_error(
    typed: Typed, train: Callable[..., Outcome]
) -> None:
    Path("taken").write_text("a file, not a folder", encoding="utf-8")
    message = train(*typed("tokenization.folder=taken", "run_dir=mine"))
    message.refused(ExitCode.RUN_FOLDER, "taken cannot be written", "tokenization.folder")


def test_a_second_run_on_the_same_folder_is_refused(
    typed: Typed, train: Callable[..., Outcome]
) -> None:
    config = compose(*typed())
    path = run_path(config, load_corpus(config.dataset, config.seed).fingerprint)
    path.mkdir(parents=True)
    with (path / LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = train(*typed())
    outcome.refused(ExitCode.RUN_FOLDER, "Another process", str(path))
    assert outcome.new_files == set()


HOLD = """
import sys, time, torch
from nlp_transfer import compose
from nlp_transfer.utils.distributed import ProcessContext
from nlp_transfer.runs.folder import open_run
with open_run(compose(*sys.argv[1:]), "corpus", ProcessContext(0, 1, torch.device("cpu"))):
    print("holding", flush=True)
    time.sleep(600)
"""


def test_a_lock_holds_as_long_as_its_process_lives_and_no_longer() -> None:
    command = [sys.executable, "-c", HOLD, *SAME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "holding\n"
            with pytest.raises(UserError, match="Another process") as refused, opened(*SAME):
                pass
            assert refused.value.code is ExitCode.RUN_FOLDER
        finally:
            holder.send_signal(signal.SIGKILL)
    with opened(*SAME) as state:
        assert state is State.unfinished


def test_the_same_run_may_be_opened_again_and_is_unfinished() -> None:
    with opened(*SAME) as state:
        assert state is State.absent
    with opened(*SAME) as state:
        assert state is State.unfinished


def test_a_finished_run_stays_finished_until_it_is_overwritten() -> None:
    with open_run(compose(*SAME), "corpus", ALONE) as folder:
        folder.finish()
    with opened(*SAME) as state:
        assert state is State.finished
    with opened(*SAME, "overwrite=true") as state:
        assert state is State.unfinished


def test_what_does_not_change_the_result_does_not_make_a_run_different() -> None:
    with opened(*SAME):
        pass
    Path("run").rename("moved")
    others = ("training.threads=1", "training.progress=false", "export.verify_rows=3")
    with opened("+task=sentiment", "run_dir=moved", *others) as state:
        assert state is State.unfinished


def test_an_option_that_a_later_version_added_makes_no_run_different() -> None:
    words = (*SAME, "strategy=two_phase")
    with opened(*words):
        pass
    file = Path("run/config.yaml")
    tree = OmegaConf.load(file)
    del tree.strategy.max_minutes, tree.strategy.stages.head.temperature
    OmegaConf.save(tree, file)
    with opened(*words) as state:
        assert state is State.unfinished
    # Nor does it rename a run: what has its default is no part of the name.
    names = {"strategy.max_minutes", "strategy.stages.head.temperature"}
    assert names.isdisjoint(changed_settings(compose(*words)))
    typed_too = ("strategy.max_minutes=9", "strategy.stages.head.temperature=0.2")
    assert names <= set(changed_settings(compose(*words, *typed_too)))


def test_a_folder_of_a_different_run_is_refused_naming_what_differs() -> None:
    with opened(*SAME):
        pass
    message = refused_run(*SAME, "seed=7", "strategy=two_phase", "training.threads=1")
    assert "run holds a different run: " in message
    assert "seed (42 there, 7 here)" in message
    assert "strategy.name ('auto' there, 'two_phase' here)" in message
    assert "strategy.stages" not in message  # another strategy has other stages
    assert "training.threads" not in message
    assert "overwrite=true" in message


def test_a_folder_of_a_run_on_other_data_is_refused_naming_the_data() -> None:
    with opened(*SAME):
        pass
    assert "the texts or labels have changed" in refused_run(*SAME, fingerprint="edited")
    # An option that makes another corpus of the same files is named in its place.
    message = refused_run(*SAME, "dataset.clean_labels=true", fingerprint="cleaned")
    assert "a different run: dataset.clean_labels (false there, true here)." in message


def test_a_folder_of_a_run_of_other_weights_is_refused_naming_them(
    checkpoints: dict[str, Path],
) -> None:
    shutil.copytree(checkpoints["bert"], "mine")
    options = (*SAME, "checkpoint.name=mine")
    for _ in range(2):
        with opened(*options) as state:
            pass
    assert state is State.unfinished
    shutil.copy(checkpoints["distilbert"] / "model.safetensors", "mine/model.safetensors")
    assert "the weights in mine (they have changed)" in refused_run(*options)


def test_a_full_disk_at_the_end_is_one_clear_error(
    train: Callable[..., Outcome],
    typed: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "mine/model")

    monkeypatch.setattr("nlp_transfer.pipeline.export", full)
    outcome = train(*typed("strategy=feature_extraction", "run_dir=mine"))
    assert outcome.code == ExitCode.RUN_FOLDER
    assert "Error: Disk error: No space left on device (mine/model)." in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("more", [(), ("overwrite=true",)], ids=["as it is", "overwrite=true"])
@pytest.mark.parametrize("lock", [False, True], ids=["", "with a .lock of another program"])
def test_a_folder_that_holds_something_else_is_refused_and_left_as_it_was(
    lock: bool, more: tuple[str, ...], typed: Typed, train: Callable[..., Outcome]
) -> None:
    Path("mine/model").mkdir(parents=True)
    names = ["config.yaml", "model/weights", *([LOCK_FILE] if lock else [])]
    for name in names:
        Path("mine", name).write_text("years of work", encoding="utf-8")
    before = contents()
    outcome = train(*typed("run_dir=mine", "dataset.limit=20", "strategy.epochs=1", *more))
    assert contents() == before
    assert outcome.new_files == set()
    outcome.refused(ExitCode.RUN_FOLDER, "mine", "config.yaml", "Set run_dir to a new folder")


def test_overwriting_a_run_keeps_what_a_person_put_beside_it() -> None:
    with opened(*SAME):
        Path("run/checkpoints").mkdir()
        Path("run/checkpoints/weights").write_text("old", encoding="utf-8")
        Path("run/notes.txt").write_text("mine", encoding="utf-8")
    with opened(*SAME, "seed=7", "overwrite=true") as state:
        assert state is State.unfinished
    assert not Path("run/checkpoints").exists()
    assert Path("run/notes.txt").read_text(encoding="utf-8") == "mine"


class Killed(BaseException):
    """Ends a run as kill -9 would: nothing of ours catches it."""


class Killer:
    """Kills before the n-th change of the disk; a file that is being opened to write is empty then.

    An audit hook cannot be removed, so there is one for all tests, and mostly it sleeps.
    """

    def __init__(self) -> None:
        self.changes_left: int | None = None
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.changes_left is None:
            return
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir"):
            self.changes_left -= 1
            if self.changes_left < 0:
                self.changes_left = None
                if writes:
                    Path(arguments[0]).touch()
                    os.truncate(arguments[0], 0)
                raise Killed


@pytest.fixture(scope="module")
def killer() -> Killer:
    """The one hook."""
    return Killer()


@pytest.mark.parametrize(
    "typed_before",
    [None, pytest.param((), marks=pytest.mark.slow), ("seed=7",)],
    ids=["first start", "again", "overwrite another"],
)
def test_a_run_killed_anywhere_while_its_folder_is_prepared_starts_again(
    typed_before: tuple[str, ...] | None, killer: Killer
) -> None:
    config = compose(*SAME, "overwrite=true") if typed_before else compose(*SAME)
    before = None if typed_before is None else compose(*SAME, *typed_before)
    survived = False
    for change in range(100):
        config.run_dir = f"run{change}"
        path = Path(config.run_dir)
        if before is not None:
            before.run_dir = config.run_dir
            with open_run(before, "corpus", ALONE) as folder:
                for name in ("checkpoints", "model"):
                    (path / name).mkdir()
                    (path / name / "weights").touch()
                (path / "metrics.json").write_text("{}", encoding="utf-8")
                if typed_before:
                    folder.finish()
        killer.changes_left = change
        try:
            with open_run(config, "corpus", ALONE):
                survived = killer.changes_left is not None
        except Killed:
            pass
        killer.changes_left = None
        if survived:
            break
        with open_run(config, "corpus", ALONE) as folder:
            assert folder.state is not State.finished, change
            assert folder.read() == {"state": "unfinished", "corpus": "corpus"}, change
            assert not folder.model.exists(), change
        # And what it says of itself is what was asked: the same again is the same run.
        config.overwrite = False
        with open_run(config, "corpus", ALONE) as folder:
            assert folder.state is State.unfinished, change
        config.overwrite = bool(typed_before)
    assert survived
    assert change > 3


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every value of a configuration: its key, the object that holds it, the attribute."""
    for field in fields(node):
        value = getattr(node, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        elif field.name == "stages":
            for name, stage in value.items():
                yield from leaves(stage, f"{prefix}stages.{name}.")
        else:
            yield f"{prefix}{field.name}", node, field.name


def another(value: Any, key: str) -> Any:
    """A different value of the same type."""
    match value:
        case None:
            typed = {"dataset.label_names": {"0": "ham"}, "evaluation.metrics": ["accuracy"]}
            typed["dataset.label_descriptions"] = {"ham": "an honest message"}
            typed["dataset.order"] = ["low", "high"]
            return typed.get(key, 1)
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}2"
        case Enum():
            return next(member for member in type(value) if member is not value)
        case list():
            return [*value, "matthews"]
    raise AssertionError(key)


def configured(**values: Any) -> Config:
    """A complete configuration without the command line."""
    strategy = StrategyConfig("mine", {"head": StageConfig("0"), "all": StageConfig("all")})
    checkpoint = CheckpointConfig("somebody/some-bert")
    return Config(task="sort", checkpoint=checkpoint, strategy=strategy, **values)


LEAVES = [key for key, _, _ in leaves(configured())]


@functools.cache
def default_path() -> Path:
    """The run folder of `configured()`."""
    return run_path(configured(), "corpus")


def test_the_name_of_a_run_is_a_function_of_what_is_asked_and_of_the_corpus() -> None:
    path = run_path(configured(), "corpus")
    assert str(path).startswith("runs/sort-some-bert-")
    assert run_path(configured(), "corpus") == path
    assert run_path(configured(seed=1), "corpus") != path
    assert run_path(configured(), "edited") != path
    assert run_path(configured(run_dir="here/there"), "corpus") == Path("here/there")


@pytest.mark.parametrize("key", [key for key in LEAVES if key != "run_dir"])
def test_a_run_has_another_name_exactly_where_the_result_may_differ(key: str) -> None:
    config = configured()
    holder, attribute = next((h, a) for k, h, a in leaves(config) if k == key)
    setattr(holder, attribute, another(getattr(holder, attribute), key))
    assert (run_path(config, "corpus") == default_path()) == (key in NOT_PART_OF_THE_RESULT)


def test_every_key_that_is_not_part_of_the_result_exists() -> None:
    assert set(NOT_PART_OF_THE_RESULT) <= set(LEAVES)


def test_an_edited_file_is_a_different_run(typed: Typed) -> None:
    def named(*more: str) -> Path:
        config = compose(*typed("dataset.train=edited.csv", *more))
        return run_path(config, load_corpus(config.dataset, config.seed).fingerprint)

    rows = make_rows(40)
    write_csv(Path("edited.csv"), rows)
    first = named()
    assert named() == first
    assert named("training.progress=false", "training.threads=2") == first
    assert named("seed=1") != first
    text, label = rows[7]
    write_csv(Path("edited.csv"), [*rows[:7], (f"{text}!", label), *rows[8:]])
    assert named() != first
    write_csv(Path("edited.csv"), rows)
    assert named() == first
