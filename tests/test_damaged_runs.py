"""Damaged files of runs, full disks: one error with the name of the file, and nothing is lost."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE_TEXTS, make_rows, write_csv

from nlp_transfer.cli.main import main
from nlp_transfer.config.loading import read_config
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.export.checkpoint import export
from nlp_transfer.inference.torch_engine import TorchEngine
from nlp_transfer.utils.files import read_json, write_durably, write_json
from nlp_transfer.utils.locks import locked

COMMANDS = {
    "predict": ["predict", "copy", SAMPLE_TEXTS[0]],
    "int8": ["predict", "copy", "--backend", "int8", SAMPLE_TEXTS[0]],
    "evaluate": ["evaluate", "copy", "--data", "rows.csv"],
    "compare": ["compare", "copy", "copy"],
    "suggest": ["suggest", "copy", "--file", "pool.csv", "--rows", "2"],
    "suspects": ["suspects", "copy"],
    "push": ["push", "copy", "--repository", "owner/name", "--dry-run"],
}
DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "folder": lambda file: (file.unlink(), file.mkdir()),
    "list": lambda file: file.write_text("[1, 2]\n"),
    "object": lambda file: file.write_text("{}\n"),
}
NO_TOKENIZING = "is damaged: it does not say how to tokenize"
WEIGHTS, TOKENIZER, ANSWERS = "model.safetensors", "tokenizer.json", "predictions/test.npz"


def damaged_copy(run: Path, file: str, damage: str) -> Path:
    """A copy of a run in the folder `copy`, with rows and a pool beside it."""
    copy = Path(shutil.copytree(run, "copy"))
    rows = make_rows(40, seed=3)
    write_csv(Path("rows.csv"), rows)
    Path("pool.csv").write_text("\n".join(["text", *(text for text, _ in rows)]))
    DAMAGES[damage](copy / file)
    return copy


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, int]:
    """The error of a command, and its exit code."""
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    errors = re.findall(r"^Error: .*", capsys.readouterr().err, re.MULTILINE)
    assert len(errors) == 1
    return errors[0], int(exit_.value.code or 0)


@pytest.mark.parametrize(
    ("command", "file", "damage", "message"),
    [
        ("predict", "run.json", "empty", "run.json is damaged: it is no JSON"),
        ("predict", "run.json", "cut", "run.json is damaged: it is no JSON"),
        ("predict", "run.json", "list", "run.json is damaged: it holds no JSON object"),
        ("predict", "run.json", "object", "run.json is damaged: it does not say how far"),
        ("compare", "run.json", "object", "run.json is damaged: it does not say how far"),
        ("suggest", "run.json", "cut", "run.json is damaged: it is no JSON"),
        ("suspects", "run.json", "missing", "run.json is damaged: it is missing"),
        ("suspects", "run.json", "folder", "run.json is damaged: it is a folder"),
        ("push", "run.json", "list", "run.json is damaged: it holds no JSON object"),
        ("evaluate", "config.yaml", "missing", "config.yaml is damaged: it is missing"),
        ("evaluate", "config.yaml", "cut", "config.yaml is damaged: it is cut off in line"),
        ("compare", "config.yaml", "cut", "config.yaml is damaged: it is cut off in line"),
        ("compare", "config.yaml", "empty", "config.yaml is damaged: it names no task"),
        ("compare", "config.yaml", "list", "config.yaml is damaged: it holds no configuration"),
        ("compare", "config.yaml", "folder", "config.yaml is damaged: it is a folder"),
        ("compare", "metrics.json", "missing", "metrics.json is damaged: it is missing"),
        ("compare", ANSWERS, "empty", "test.npz is damaged: it holds no stored answers"),
        ("compare", ANSWERS, "cut", "test.npz is damaged: it holds no stored answers"),
        ("suggest", ANSWERS, "list", "test.npz is damaged: it holds no stored answers"),
        ("compare", f"model/{WEIGHTS}", "cut", f"{WEIGHTS} is damaged: it holds no weights"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(
    command: str,
    file: str,
    damage: str,
    message: str,
    finished: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged_copy(finished, file, damage)
    error, code = refusal(capsys, *COMMANDS[command])
    assert message in error
    assert "Copy the whole folder again" in error
    assert code == ExitCode.RUN_FOLDER


@pytest.mark.parametrize(
    ("command", "file", "damage", "message"),
    [
        ("predict", TOKENIZER, "list", f"{TOKENIZER} is damaged (it holds no JSON object)"),
        ("predict", "config.json", "list", "config.json is damaged (it holds no JSON object)"),
        ("push", "config.json", "list", "config.json is damaged (it holds no JSON object)"),
        ("push", "config.json", "cut", "config.json is damaged"),
        ("push", TOKENIZER, "missing", "has no tokenizer"),
        ("push", TOKENIZER, "cut", f"{TOKENIZER} is damaged"),
        ("push", WEIGHTS, "cut", f"{WEIGHTS} is damaged or cut off"),
        ("push", WEIGHTS, "empty", f"{WEIGHTS} is empty"),
    ],
)
def test_a_damaged_model_is_neither_opened_nor_uploaded(
    command: str,
    file: str,
    damage: str,
    message: str,
    finished: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged_copy(finished, f"model/{file}", damage)
    error, code = refusal(capsys, *COMMANDS[command])
    assert message in error
    assert code == (ExitCode.HUB if command == "push" else ExitCode.CHECKPOINT)


@pytest.mark.parametrize(
    ("command", "file", "damage", "message"),
    [
        ("int8", "config.json", "list", "config.json is damaged: it holds no JSON object"),
        ("int8", "onnx/export.json", "list", "export.json is damaged: it holds no JSON object"),
        ("int8", "onnx/export.json", "object", f"export.json {NO_TOKENIZING}"),
        ("push", "onnx/model.onnx", "cut", "model.onnx cannot be opened"),
        ("push", "onnx/model_int8.onnx", "empty", "model_int8.onnx cannot be opened"),
        ("push", "onnx/model.onnx", "missing", "was not exported for the backend onnx"),
    ],
)
def test_a_damaged_export_is_neither_opened_nor_uploaded(
    command: str,
    file: str,
    damage: str,
    message: str,
    exported: Callable[[str], Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged_copy(exported("bert").folder, file, damage)
    error, code = refusal(capsys, *COMMANDS[command])
    assert message in error
    assert code == ExitCode.CHECKPOINT


def test_a_configuration_that_is_cut_off_gets_no_defaults(finished: Path) -> None:
    text = (finished / "config.yaml").read_text()
    Path("config.yaml").write_text(text[:-2])
    with pytest.raises(UserError, match=f"cut off in line {text.count(chr(10))}"):
        read_config(Path("config.yaml"))


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file may grow past so many bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [1_000, 20_000])
def test_a_model_that_does_not_fit_on_the_disk_is_an_error_of_the_disk(
    size: int, finished: Path
) -> None:
    engine = TorchEngine.load(finished / "model")
    (folder := Path("model")).mkdir()
    with small_files(size), pytest.raises(OSError, match="File too large") as error:
        export(engine.model, engine.tokenizer, "name", 64, folder)
    assert error.value.filename == "model.part"
    assert folder.is_dir()


def test_a_file_that_does_not_fit_on_the_disk_is_named_and_leaves_nothing() -> None:
    write_json(Path("run.json"), {"state": "unfinished"})
    for write in (
        lambda file: write_json(file, ["a text"] * 500),
        lambda file: write_durably(file, lambda opened: opened.write(b"0" * 5_000)),
    ):
        with small_files(1_000), pytest.raises(OSError, match="File too large") as error:
            write(Path("run.json"))
        assert error.value.filename == "run.json"
        assert [file.name for file in Path().iterdir()] == ["run.json"]
        assert read_json(Path("run.json")) == {"state": "unfinished"}


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("suggest", "--file", "pool.csv", "--seed", "-1"), "from 0 to 4294967295", "CONFIG"),
        (("suggest", "--file", "pool.csv", "--seed", "4294967296"), "from 0 to 42", "CONFIG"),
        (("suggest", "--file", "pool.csv", "--out", "here.csv", "--force"), "a folder", "CONFIG"),
        (("distill", "--layers", "1", "--unlabeled", "absent.csv"), "--unlabeled='absent", "DATA"),
        (("distill", "--layers", "1", "--unlabeled", "body.csv"), "has body", "DATA"),
    ],
)
def test_impossible_arguments_leave_nothing_behind(
    arguments: tuple[str, ...],
    message: str,
    code: str,
    finished: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(finished, "copy")
    Path("pool.csv").write_text("text\na lamp\n")
    Path("body.csv").write_text("body\na lamp\n")
    Path("here.csv").mkdir()
    before = sorted(Path().rglob("*"))
    error, exit_code = refusal(capsys, arguments[0], "copy", *arguments[1:])
    assert message in error
    assert exit_code == ExitCode[code]
    assert sorted(Path().rglob("*")) == before


def test_a_model_that_another_process_exports_is_not_exported(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, "copy")
    with locked(Path("copy/model/.onnx.lock"), wait=False):
        error, code = refusal(capsys, "export", "copy", "--onnx")
    assert "Another process is exporting copy/model. Wait for it" in error
    assert code == ExitCode.RUN_FOLDER
    assert not Path("copy/model/onnx.part").exists()


def test_an_interrupted_export_leaves_nothing(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    shutil.copytree(finished, "copy")
    before = sorted(Path("copy").rglob("*"))
    monkeypatch.setattr("nlp_transfer.export.onnx._write", interrupt)
    with pytest.raises(SystemExit) as exit_:
        main(["export", "copy", "--onnx"])
    assert exit_.value.code == 130
    assert sorted(Path("copy").rglob("*")) == before
