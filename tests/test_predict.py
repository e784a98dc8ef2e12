"""`nlp-transfer predict`: every row answered once, in its place, whatever ends the process."""

from __future__ import annotations

import codecs
import csv
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LABELS, SAMPLE_TEXTS, make_rows, slow_but

from nlp_transfer import Classifier
from nlp_transfer.cli.main import main
from nlp_transfer.errors import ExitCode
from nlp_transfer.inference.shards import write_part

BLANK = 3  # the row without a text
KINDS = ("csv", "tsv", "jsonl", "parquet")
Predict = Callable[..., Any]


@pytest.fixture
def model(exported: Callable[[str], Any]) -> Path:
    """A tiny classifier, exported to ONNX."""
    return exported("bert").folder


@pytest.fixture
def predict(model: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Predict:
    """Types the command, in this process; returns its exit code and what it said."""

    def enter(*typed: str, backend: str = "onnx") -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = 0
        try:
            main(["predict", str(model), "--backend", backend, "--threads", "1", *typed])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        output = capfdbinary.readouterr()
        return code, output.out.decode(), output.err.decode()

    return enter


def rows_of(count: int = len(SAMPLE_TEXTS)) -> list[dict[str, str]]:
    """A table with cells that a careless reader would change."""
    texts = [
        *SAMPLE_TEXTS,
        *(text for text, _ in make_rows(max(count - len(SAMPLE_TEXTS), 0), seed=3)),
    ][:count]
    odd = ["NA", "007", 'say "no",\nthen\tleave', "", "a\rlone return", "Ünïcode"]
    rows = [{"id": odd[i % len(odd)], "review": text} for i, text in enumerate(texts)]
    rows[BLANK]["review"] = " "
    return rows


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    """By suffix."""
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case _:
            with path.open("w", newline="", encoding="utf-8") as file:
                delimiter = "\t" if path.suffix == ".tsv" else ","
                writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
                writer.writeheader()
                writer.writerows(rows)
    return path


def read_table(path: Path) -> list[dict[str, Any]]:
    """By suffix."""
    match path.suffix:
        case ".parquet":
            return pq.read_table(path).to_pylist()
        case ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        case _:
            with path.open(newline="", encoding="utf-8") as file:
                return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("into", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_keeps_its_columns_and_gets_its_answer(
    kind: str, into: str, predict: Predict, model: Path
) -> None:
    rows = rows_of()
    write_table(Path(f"texts.{kind}"), rows)
    options = ("--file", f"texts.{kind}", "--text", "review", "--out", f"answers.{into}")
    code, out, err = predict(*options, "--probabilities")
    assert (code, out) == (0, ""), err
    assert "60 rows, 1 of them without a text and an answer" in err
    table = read_table(Path(f"answers.{into}"))
    names = [*rows[0], "label", "score", *(f"probability_{label}" for label in LABELS)]
    assert list(table[0]) == names
    assert [{name: row[name] for name in rows[0]} for row in table] == rows
    nothing = "" if into in ("csv", "tsv") else None
    assert [table[BLANK][name] for name in names[2:]] == [nothing] * 5
    expected = Classifier.load(model, "onnx").predict([row["review"] for row in rows])
    for i, (row, answer) in enumerate(zip(table, expected, strict=True)):
        if i != BLANK:
            assert row["label"] == answer.label
            assert float(row["score"]) == pytest.approx(answer.score, abs=1e-6)
            assert float(row["probability_good"]) == pytest.approx(answer.probabilities["good"])
    assert {path.name for path in Path.cwd().iterdir()} == {f"texts.{kind}", f"answers.{into}"}


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_answers_in_a_workbook_keep_what_excel_would_compute_or_round(
    kind: str, predict: Predict, model: Path
) -> None:
    cells = ["=1+1", "#N/A text", "007", "12345678901234567890", "line\nline", "Ünïcode", "+1"]
    rows = [{"id": cells[i % 7], "review": text} for i, text in enumerate(SAMPLE_TEXTS)]
    rows[BLANK]["review"] = " "
    write_table(Path("texts.csv"), rows)
    options = ("--text", "review", "--probabilities", "--out")
    assert predict("--file", "texts.csv", *options, "answers.xlsx")[0] == 0
    if kind == "xlsx":  # a workbook is read as it was written
        assert predict("--file", "answers.xlsx", *options, "more.xlsx", "--prefix", "my_")[0] == 0
    file = Path("answers.xlsx" if kind == "csv" else "more.xlsx")
    sheet = openpyxl.load_workbook(file).active
    header, *table = sheet.iter_rows(values_only=True)
    assert header[:4] == ("id", "review", "label", "score")
    assert [row[:2] for row in table] == [tuple(row.values()) for row in rows]
    assert {cell.data_type for cell in sheet["A"]} == {"s"}  # no formula, no error, no number
    prefix = "my_" if kind == "xlsx" else ""
    columns = [header.index(f"{prefix}{name}") for name in ("label", "probability_good")]
    expected = Classifier.load(model, "onnx").predict([row["review"] for row in rows])
    for i, (row, answer) in enumerate(zip(table, expected, strict=True)):
        label, share = (row[column] for column in columns)
        assert (label, share) == (None, None) if i == BLANK else label == answer.label
        assert i == BLANK or share == pytest.approx(answer.probabilities["good"], abs=1e-6)
    assert not Path(f"{file}.part").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("bell \x07", r"No workbook can hold the sign '\x07'"), ("x" * 32_768, "32,767")],
)
def test_what_a_workbook_cannot_hold_is_named(text: str, message: str, predict: Predict) -> None:
    write_table(Path("texts.csv"), [{"review": "a film"}, {"review": text}])
    code, _, err = predict("--file", "texts.csv", "--text", "review", "--out", "answers.xlsx")
    assert code == ExitCode.DATA
    assert message in err
    assert "Write the table as .csv or .parquet" in err
    assert not Path("answers.xlsx").exists()


def test_what_is_no_table_and_no_sentence_is_named(predict: Predict) -> None:
    Path("texts.csv").write_text("body\na film\n")
    code, _, err = predict("texts.csv")
    assert code == ExitCode.CONFIG
    assert "predict RUN --file texts.csv --text COLUMN" in err
    code, _, err = predict("--file", "absent.csv")
    assert (code, "there is no such file" in err) == (ExitCode.DATA, True)
    for sentence in ("My invoice is wrong", "Refund"):
        with pytest.raises(SystemExit) as left:
            main(["predict", sentence])
        assert left.value.code == ExitCode.RUN_FOLDER


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_answers_to_a_file_with_a_mark_have_one_so_that_excel_reads_their_letters(
    encoding: str, predict: Predict
) -> None:
    Path("texts.csv").write_text("review;n\nein schöner Film;1\n", encoding=encoding)
    code, _, err = predict("--file", "texts.csv", "--text", "review", "--out", "answers.csv")
    assert code == 0, err
    answers = Path("answers.csv").read_bytes()
    assert answers.startswith(codecs.BOM_UTF8)
    assert answers.decode("utf-8-sig").startswith("review;n;label;score\nein schöner Film;1;")
    predict("--file", "texts.csv", "--text", "review", "--out", "answers.jsonl")
    assert json.loads(Path("answers.jsonl").read_text("utf-8"))["review"] == "ein schöner Film"


@pytest.mark.parametrize("separator", [";", "\t"])
def test_cells_of_answers_are_separated_as_those_of_the_file(
    separator: str, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = f'id{separator}review\n1{separator}"a lovely, warm film"\n2{separator}a cold soup\n'
    Path("texts.csv").write_text(table, encoding="utf-8")
    code, _, err = predict("--file", "texts.csv", "--text", "review", "--out", "answers.csv")
    assert code == 0, err
    answers = Path("answers.csv").read_text(encoding="utf-8")
    first, second, _ = answers.splitlines()
    assert first == separator.join(["id", "review", "label", "score"])
    assert second.startswith(f"1{separator}a lovely, warm film{separator}")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(table.encode())))
    streamed = predict("--file", "-", "--format", "csv", "--text", "review")
    assert streamed[:2] == (0, answers), streamed
    code, _, err = predict("--file", "texts.csv", "--text", "review", "--out", "answers.tsv")
    assert Path("answers.tsv").read_text(encoding="utf-8").startswith("id\treview\t"), err


def test_every_backend_answers(predict: Predict) -> None:
    write_table(Path("texts.csv"), rows_of())
    answers = {}
    for backend in ("torch", "onnx", "int8"):
        out = Path(f"{backend}.jsonl")
        options = ("--file", "texts.csv", "--text", "review", "--out", str(out))
        assert predict(*options, backend=backend)[0] == 0
        answers[backend] = [row["label"] for row in read_table(out)]
    assert answers["torch"] == answers["onnx"]
    assert set(answers["int8"]) <= {*LABELS, None}
    assert answers["int8"].count(None) == 1


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_stream_goes_through(
    kind: str, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_table(Path(f"texts.{kind}"), rows_of())
    options = ("--file", str(table), "--text", "review")
    assert predict(*options, "--out", f"answers.{kind}")[0] == 0
    expected = Path(f"answers.{kind}").read_bytes().decode()
    assert predict(*options)[1] == expected
    for out in ("-", f"again.{kind}"):
        stream = io.TextIOWrapper(io.BytesIO(table.read_bytes()))
        monkeypatch.setattr(sys, "stdin", stream)
        code, output, _ = predict("--text", "review", "--format", kind, "--out", out)
        assert code == 0
        assert (output if out == "-" else Path(out).read_bytes().decode()) == expected


def command(model: Path, source: Path, out: Path) -> list[str]:
    """What a person types to answer a file by ONNX."""
    files = ["--file", str(source), "--text", "review", "--out", str(out)]
    folder = [str(model), "--backend", "onnx", "--threads", "1"]
    return [sys.executable, "-m", "nlp_transfer.cli", "predict", *folder, *files]


@pytest.mark.parametrize("kind", slow_but(["parquet"], ["parquet", "csv"]))
def test_a_killed_run_continues_and_gives_the_same_file(kind: str, model: Path) -> None:
    source = write_table(Path("texts.parquet"), rows_of(14_000))
    unbroken, out = Path(f"unbroken.{kind}"), Path(f"answers.{kind}")
    subprocess.run(command(model, source, unbroken), check=True, capture_output=True)
    home = Path(f"{out}.part")
    process = subprocess.Popen(command(model, source, out), stderr=subprocess.DEVNULL)
    while not (home / "00000001").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    finished_windows = sum(path.name.isdecimal() for path in home.iterdir())
    done = subprocess.run(command(model, source, out), check=True, capture_output=True, text=True)
    assert f"{finished_windows} windows were answered before" in done.stderr
    assert out.read_bytes() == unbroken.read_bytes()
    assert not home.exists()


def test_two_workers_give_the_file_of_one(model: Path) -> None:
    source = write_table(Path("texts.csv"), rows_of(9_000))
    subprocess.run(command(model, source, Path("one.parquet")), check=True, capture_output=True)
    workers = [
        subprocess.Popen(
            command(model, source, Path("two.parquet")),
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [worker.communicate(timeout=60)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert "9,000 rows" in outputs[0]
    assert outputs[1] == ""
    assert Path("two.parquet").read_bytes() == Path("one.parquet").read_bytes()
    assert not Path("two.parquet.part").exists()


def test_unfinished_answers_to_another_question_are_left_alone(predict: Predict) -> None:
    write_table(Path("texts.csv"), rows_of())
    home = Path("answers.csv.part")
    home.mkdir()
    (home / "about.json").write_text(json.dumps({"backend": "torch"}))
    (home / "00000000").write_text("hours of work")
    options = ("--file", "texts.csv", "--text", "review", "--out", "answers.csv")
    code, _, err = predict(*options)
    assert code == ExitCode.CONFIG
    assert "unfinished answers of another command" in err
    assert (home / "00000000").read_text() == "hours of work"
    (home / "about.json").unlink()
    code, _, err = predict(*options)
    assert code == ExitCode.CONFIG
    assert "was not written by predict" in err
    # As a process that was killed, or another worker, may leave it.
    (home / "00000000").rename(home / "about.json.123")
    assert predict(*options)[0] == 0


def test_a_mistake_leaves_nothing_behind(predict: Predict) -> None:
    write_table(Path("texts.csv"), rows_of())
    options = ("--file", "texts.csv", "--out", "answers.csv")
    code, _, err = predict(*options, "--text", "text")
    assert code == ExitCode.DATA
    assert "it has id, review" in err
    assert [path.name for path in Path.cwd().iterdir()] == ["texts.csv"]
    assert predict(*options, "--text", "review")[0] == 0


def test_json_lines_may_differ_in_shape_where_the_answers_are_json_lines(predict: Predict) -> None:
    rows: list[dict[str, Any]] = [{"review": "a film", "n": i} for i in range(4096)]
    rows += [{"review": "the cold soup", "tags": ["x"], "n": 1.5}, {"n": None}]
    source = Path("texts.jsonl")
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--file", str(source), "--text", "review", "--out")
    assert predict(*options, "answers.jsonl")[0] == 0
    table = read_table(Path("answers.jsonl"))
    assert [{k: v for k, v in row.items() if k not in ("label", "score")} for row in table] == rows
    assert table[-1]["label"] is None
    code, _, err = predict(*options, "answers.parquet")
    assert code == ExitCode.DATA
    assert "'tags', which none of the first" in err
    assert not Path("answers.parquet").exists()


def parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


TWICE = parquet(pa.Table.from_arrays([["a"], ["b"]], names=["review", "review"]))


def test_what_json_has_no_number_for_is_null(predict: Predict) -> None:
    rows = {"review": ["a film"] * 2, "n": [float("nan"), 1.5], "m": [[float("inf")], [2.0]]}
    Path("t.parquet").write_bytes(parquet(pa.table(rows)))
    assert predict("--file", "t.parquet", "--text", "review", "--out", "answers.jsonl")[0] == 0
    answers = read_table(Path("answers.jsonl"))
    assert [(row["n"], row["m"]) for row in answers] == [(None, [None]), (1.5, [2.0])]
    assert "NaN" not in Path("answers.jsonl").read_text()


def test_rows_without_a_text_are_counted_also_where_they_were_answered_before(
    predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(Path("texts.csv"), rows_of(4100))
    options = ("--file", "texts.csv", "--text", "review", "--out", "answers.csv")
    with monkeypatch.context() as broken:
        broken.setattr("nlp_transfer.inference.table_prediction.write_part", stops_after_one())
        assert predict(*options)[0] == 130
    code, _, err = predict(*options)
    assert code == 0
    assert "4,100 rows, 1 of them without a text" in err
    assert "1 windows were answered before" in err


def stops_after_one() -> Callable[..., None]:
    """Writes one part, and is interrupted at the second."""
    done: list[Path] = []

    def write(writer: Any, window: Any, part: Path) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(part)
        write_part(writer, window, part)

    return write


def test_whoever_comes_second_deletes_nothing(
    predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path("answers.csv.part")
    home.mkdir()
    (home / "about.json").write_text("{}")
    (home / "00000000").write_text("answered by the first")
    stream = io.TextIOWrapper(io.BytesIO(b"review\na film\n"))
    monkeypatch.setattr(sys, "stdin", stream)
    with (home / "lock-0").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = predict("--text", "review", "--format", "csv", "--out", "answers.csv")
    assert code == ExitCode.RUN_FOLDER
    assert "Another process is writing these answers" in err
    assert (home / "00000000").read_text() == "answered by the first"


def test_a_worker_that_no_launcher_has_started_does_not_wait_for_others(
    predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("t.csv").write_text("review\na film\n")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    code, _, err = predict("--file", "t.csv", "--text", "review", "--out", "answers.csv")
    assert code == ExitCode.MACHINE
    assert "predict runs on one machine" in err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"review,label\na,b\n", "--prefix"),
        ("t.csv", b"review,review\na,b\n", "'review' more than once"),
        ("t.csv", b"review,x\na,b\na\n", "line 3: expected 2 cells"),
        ("t.csv", b'review,x\n"a"b,c\n', "line 2"),
        ("t.csv", b"review,x\n\xff\xfe,c\n", "not UTF-8"),
        ("t.csv", b"", "has no rows"),
        ("t.csv", b"review\n", "has no rows"),
        ("t.jsonl", b'{"review": "a"}\n{"review": \n', "line 2: expected one JSON object"),
        ("t.jsonl", b"[1]\n", "line 1: expected a JSON object"),
        ("t.jsonl", b'{"review": "a", "score": 1}\n', "--prefix"),
        ("t.jsonl", b'{"review": "half \\ud83d of it"}\n', "line 1: \\ud83d is half of"),
        (
            "t.jsonl",
            b'{"review": {"en": "a"}}\n{"review": {"en": "b"}}\n',
            "A text is expected, found an object in row 1",
        ),
        ("t.jsonl", b'{"review": "a", "n": 99999999999999999999}\n', "Row 1, column 'n': found 99"),
        (
            "t.jsonl",
            b'{"review": "a"}\n{"review": "b", "n": 1}\n{"review": "c", "n": "x"}\n',
            "Row 3, column 'n': found 'x', where row 2 has 1.",
        ),
        ("t.parquet", b"not parquet", "cannot be read"),
        ("t.parquet", TWICE, "'review' more than once"),
        ("t.txt", b"", "known kinds"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_clear_error(
    name: str, content: bytes, message: str, predict: Predict
) -> None:
    Path(name).write_bytes(content)
    code, out, err = predict("--file", name, "--text", "review", "--out", "answers.csv")
    assert code in (ExitCode.DATA, ExitCode.CONFIG)
    assert out == ""
    assert err.startswith("Error: ")
    assert message in err
    assert [path.name for path in Path.cwd().iterdir()] == [name]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--file", "no.csv", "--text", "review"], "no such file"),
        (["--text", "review"], "Standard input needs --format"),
        (["--file", "t.csv"], "--text"),
        (["--file", "t.csv", "--text", "review", "--out", "x.xls"], "no table of this kind"),
        (["--file", "t.csv", "--text", "review", "--out", "no/x.csv"], "no folder"),
        (["--file", "t.csv", "--text", "review", "--out", "t.csv"], "is there already"),
        (["--file", "t.csv", "--text", "review", "--out", "t.csv", "--force"], "same file"),
        (["--file", "t.parquet", "--text", "review"], "Standard output needs --format"),
        (["--file", "t.csv", "--text", "review", "--text-pair", "y"], "--text-pair 'y'"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_error(
    typed: list[str], message: str, predict: Predict
) -> None:
    Path("t.csv").write_text("review\nthe cold soup\n")
    Path("t.parquet").write_bytes(b"")
    code, out, err = predict(*typed)
    assert code in (ExitCode.DATA, ExitCode.CONFIG)
    assert (out, err[:7]) == ("", "Error: ")
    assert message in err
    assert Path("t.csv").read_text() == "review\nthe cold soup\n"


def test_columns_are_looked_for_before_a_model_is_loaded(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, "damaged")
    for weights in Path("damaged").rglob("*.onnx"):
        weights.write_bytes(b"")
    write_table(Path("texts.csv"), [{"review": "a film"}])
    command = ["predict", "damaged", "--backend", "onnx", "--file", "texts.csv", "--out", "o.csv"]
    with pytest.raises(SystemExit) as left:
        main([*command, "--text", "body"])
    assert left.value.code == ExitCode.DATA
    assert "--text 'body' is not a column of texts.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dataset: [\n", "it is no YAML"),
        ("- dataset\n", "it holds no configuration"),
        ("dataset: {text: 5}\n", "its columns of texts are no names"),
        ("dataset: {text: a}\nevaluat", "it is cut off in line 2"),
        ("dataset:\n  text: rev", "it is cut off in line 2"),
    ],
)
def test_a_damaged_configuration_is_one_clear_error(
    content: str, message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("t.csv").write_text("review\nthe cold soup\n")
    folder = Path(shutil.copytree(model, "run"))
    (folder / "config.yaml").write_text(content)
    with pytest.raises(SystemExit) as left:
        main(["predict", "run", "--file", "t.csv", "--out", "answers.csv"])
    assert left.value.code == ExitCode.RUN_FOLDER
    assert f"config.yaml is damaged: {message}" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_clear_error(predict: Predict) -> None:
    Path("t.csv").write_text("review\nthe cold soup\n")
    # Root may write everywhere but where the system itself is kept.
    code, _, err = predict("--file", "t.csv", "--text", "review", "--out", "/proc/answers.csv")
    assert code == ExitCode.RUN_FOLDER
    assert err.startswith("Error: Disk error: ")
