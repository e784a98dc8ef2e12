"""`nlp-transfer predict --engine ray`: the answers of one machine, block by block."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_rows

from nlp_transfer.cli.main import main
from nlp_transfer.errors import ExitCode

ROWS = 40  # of a row group


@pytest.fixture
def model(exported: Callable[[str], Any]) -> Path:
    """A tiny classifier, exported to ONNX."""
    return exported("bert").folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Two files, of three row groups and of one; two rows have no text."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, count in (("a", 100), ("b", 20)):
        rows: list[Any] = [text for text, _ in make_rows(count, seed=count)]
        rows[7] = None
        table = pa.table({"id": range(count), "body": pa.array(rows, pa.string())})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=ROWS)
    return folder


def command(model: Path, source: object, out: Path, *more: str) -> list[str]:
    words = ["predict", str(model), "--backend", "onnx", "--threads", "1", "--text", "body"]
    return [*words, "--file", str(source), "--out", str(out), *more]


def on_ray(model: Path, source: object, out: Path, *more: str) -> None:
    main(command(model, source, out, "--engine", "ray", "--workers", "2", *more))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str]:
    with pytest.raises(SystemExit) as leaving:
        on_ray(*arguments)
    return int(leaving.value.code or 0), capsys.readouterr().err


@pytest.mark.slow
def test_workers_give_the_answers_of_one_machine_and_only_missing_blocks_are_answered_again(
    model: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers"
    on_ray(model, f"file://{texts}/*.parquet", out, "--probabilities")
    assert "120 rows, 2 of them without a text and an answer" in capsys.readouterr().err
    parts = sorted(out.glob("*.parquet"))
    names = ["00000-00000", "00000-00001", "00000-00002", "00001-00000"]
    assert [part.name for part in parts] == [f"part-{name}.parquet" for name in names]
    expected = []
    for name in ("a", "b"):
        whole = tmp_path / f"{name}.parquet"
        main(command(model, texts / f"{name}.parquet", whole, "--probabilities"))
        expected += pq.read_table(whole).to_pylist()
    assert pq.read_table(out).to_pylist() == expected

    # What a job that was stopped leaves behind: a block is missing, another is half written.
    before = {part: part.stat().st_mtime_ns for part in parts}
    parts[1].unlink()
    (out / "_partial-0").write_bytes(b"half")
    capsys.readouterr()
    on_ray(model, f"file://{texts}/*.parquet", out, "--probabilities")
    assert "3 windows were answered before" in capsys.readouterr().err
    after = {part: part.stat().st_mtime_ns for part in parts}
    assert {part for part in parts if after[part] != before[part]} == {parts[1]}
    assert not list(out.glob("_partial-*"))
    assert pq.read_table(out).to_pylist() == expected

    # Another question is refused, and replaces the answers if that is asked for.
    code, message = refusal(capsys, model, f"file://{texts}/*.parquet", out)
    assert code == ExitCode.CONFIG
    assert "answers of another command (answers differ)" in message
    on_ray(model, texts / "b.parquet", out, "--force")
    assert pq.read_table(out).column_names == ["id", "body", "label", "score"]
    assert pq.read_table(out).num_rows == 20


@pytest.mark.slow
def test_a_text_that_is_none_is_one_message_from_the_worker(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "numbers.parquet"
    pq.write_table(pa.table({"body": [["a", "list"]]}), source)
    code, message = refusal(capfd, model, source, tmp_path / "out")
    assert code == ExitCode.DATA
    assert message.count("Error: ") == len(message.splitlines()) == 1
    assert "A text is expected, found" in message


@pytest.mark.parametrize(
    ("source", "more", "words"),
    [
        ("absent-*.parquet", (), "there is no such file"),
        ("table.csv", (), "--engine ray reads Parquet"),
        ("broken.parquet", (), "cannot be read as Parquet"),
        ("empty.parquet", (), "has no rows"),
        ("good.parquet", ("--text", "absent"), "absent"),
        ("good.parquet", ("--separator", ";"), "leave out --separator"),
        ("good.parquet", ("--delimiter", ";"), "leave out --delimiter"),
        ("good.parquet", ("--workers", "0"), "expected 1 or more"),
    ],
)
def test_what_a_cluster_cannot_read_is_refused_before_it_starts(
    source: str,
    more: tuple[str, ...],
    words: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "table.csv").write_text("body\ngood\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    table = pa.table({"body": pa.array(["good"], pa.string())})
    pq.write_table(table, tmp_path / "good.parquet")
    pq.write_table(table[:0], tmp_path / "empty.parquet")
    _, message = refusal(capsys, model, tmp_path / source, tmp_path / "out", *more)
    assert words in message
    assert message.count("Error: ") == len(message.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(
    model: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "notes.json").write_text(json.dumps("keep"))
    _, message = refusal(capsys, model, texts, out, "--force")
    assert "was not written by predict --engine ray" in message
    assert [path.name for path in out.iterdir()] == ["notes.json"]
