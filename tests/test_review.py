"""`nlp-transfer review`: every answer is on the disk before the next row is shown."""

from __future__ import annotations

import csv
import http.client
import json
import random
import signal
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from browser import EXECUTABLE, running_browser
from conftest import make_rows, write_csv
from serving_process import Server, started

from nlp_transfer import UserError, compose
from nlp_transfer.cli.main import main
from nlp_transfer.config.choices import OnUnusable
from nlp_transfer.config.schema import as_dict
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.errors import ExitCode
from nlp_transfer.serving.connections import HEADER_SECONDS
from nlp_transfer.serving.review.labels import Labels, labels_of_shares
from nlp_transfer.serving.review.session import Mark, open_session
from nlp_transfer.serving.review.table import ReviewRequest, read_review
from nlp_transfer.utils.files import write_json, write_table, write_text

HEADER = ("id", "text", "label", "guess", "probabilities", "reason")
JSON = {"Content-Type": "application/json"}
NAMES = ("negative", "neutral", "positive")


def write_next(file: Path, rows: int = 6) -> Path:
    """As `suggest` writes it, with texts of several lines, quotes and commas."""
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(HEADER)
        for i in range(rows):
            first, second = NAMES[i % 3], NAMES[(i + 1) % 3]
            shares = f"{first} 0.60, {second} 0.30, {NAMES[(i + 2) % 3]} 0.10"
            text = f'Number {i}:\n"ünlike", and\tnew <b>{i * i}</b>'
            writer.writerow((i, text, "", first, shares, f"{first} or {second} (margin 0.30)"))
    return file


def write_suspects(file: Path, rows: int = 6) -> Path:
    """As `suspects` writes it."""
    names = "source row split label suggested neighbours neighbours_suggested probability text"
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(names.split())
        for i, (text, label) in enumerate(make_rows(rows)):
            other = "negative" if label == "positive" else "positive"
            writer.writerow(("t.csv", i + 1, "train", label, other, 0.1, 0.9, 0.02, text))
    return file


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def answer(server: Server, label: str | None, state: dict[str, Any] | None = None) -> Any:
    """Give a label to the row that is shown (None: skip it); the state after it."""
    state = state or server.ask("/review")[1]
    labels = None if label is None else [label]
    body = {"row": state["row"], "seen": state["seen"], "labels": labels}
    status, reply = server.ask("/answer", body, JSON)
    assert status == 200, reply
    return reply


def stop(server: Server) -> str:
    """Ctrl-C; what the command prints."""
    server.ask("/review")  # it has begun
    server.process.send_signal(signal.SIGINT)
    output, errors = server.process.communicate(timeout=30)
    assert server.process.returncode == 0, errors
    return output


def test_answers_fill_the_column_and_everything_else_stays() -> None:
    file = write_next(Path("next.csv"))
    before = rows_of(file)
    with started("review", str(file)) as server:
        state = server.ask("/review")[1]
        assert state["labels"] == list(NAMES)
        assert state["shown"]["text"] == before[0]["text"]
        assert state["shown"]["guess"] == "negative"
        assert state["shown"]["shares"][1] == ["neutral", 0.3]
        assert state["shown"]["reason"] == before[0]["reason"]
        assert state["shown"]["others"] == {"id": "0"}
        answer(server, "positive")
        answer(server, None)
        after = answer(server, "neutral")
        undone = server.ask("/undo", {"seen": after["seen"]}, JSON)[1]
        assert (undone["row"], undone["answered"], undone["skipped"]) == (2, 1, 1)
        answer(server, "negative")
        output = stop(server)
    assert "Rows with an answer in next.csv: 2 of 6." in output
    assert "dataset.train=[YOUR_FILES,next.csv]' dataset.label=label" in output
    assert "dataset.on_unlabeled=drop" in output
    rows = rows_of(file)
    assert [row["label"] for row in rows] == ["positive", "", "negative", "", "", ""]
    assert [{**row, "label": ""} for row in rows] == before


def test_killed_after_every_answer_it_goes_on_and_ends_complete() -> None:
    file = write_next(Path("next.csv"), rows=3)
    wanted = ["neutral", "positive", "negative"]
    for number, label in enumerate(wanted):
        with started("review", str(file)) as server:
            state = server.ask("/review")[1]
            assert (state["row"], state["answered"]) == (number, number)
            assert answer(server, label)["answered"] == number + 1
            server.process.kill()
            server.process.wait()
        lines = Path("next.csv.review/answers.jsonl").read_text().splitlines()
        last = [entry for entry in map(json.loads, lines) if "row" in entry][-1]
        assert last == {"row": number, "before": None, "mark": [label]}
        assert len(rows_of(file)) == 3
    with started("review", str(file)) as server:
        state = server.ask("/review")[1]
        assert state["row"] is None
        undone = server.ask("/undo", {"seen": state["seen"]}, JSON)[1]  # of another process
        assert undone["row"] == 2
        answer(server, "positive")
        stop(server)
    assert [row["label"] for row in rows_of(file)] == [*wanted[:2], "positive"]
    assert not Path("next.csv.review").exists()


def test_an_answer_that_was_cut_off_while_it_was_written_is_asked_again() -> None:
    table = read_review(ReviewRequest(write_next(Path("next.csv")).resolve()))
    with open_session(table) as session:
        session.mark(0, 0, Mark(("neutral",)))
        session.mark(1, 1, Mark(("positive",)))
    journal = Path("next.csv.review/answers.jsonl")
    with journal.open("a") as lines:
        lines.write('{"row": 2, "before": null, "ma')
    with open_session(read_review(ReviewRequest(Path("next.csv").resolve()))) as session:
        assert (session.row, session.state()["answered"]) == (2, 2)
        session.mark(2, 2, Mark(("negative",)))
    assert all(map(json.loads, journal.read_text().splitlines()))


def test_hostile_requests_change_nothing() -> None:
    file = write_next(Path("next.csv"))
    content = file.read_bytes()
    body = {"row": 0, "seen": 0, "labels": ["neutral"]}
    with started("review", str(file)) as server:
        own = {"Origin": f"http://127.0.0.1:{server.port}", "Sec-Fetch-Site": "same-origin"}
        for headers, expected in (
            ({**JSON, "Host": "evil.example"}, 421),
            ({**JSON, "Host": "127.0.0.1.evil.example"}, 421),
            ({**JSON, "Origin": "https://evil.example"}, 403),
            ({**JSON, "Origin": f"http://127.0.0.1:{server.port + 1}"}, 403),
            ({**JSON, "Origin": "null"}, 403),
            ({**JSON, "Sec-Fetch-Site": "cross-site"}, 403),
            ({**own, "Content-Type": "text/plain"}, 415),
            (own, 415),
        ):
            assert server.ask("/answer", body, headers)[0] == expected, headers
            assert server.ask("/undo", {"seen": 0}, headers)[0] == expected, headers
        for change in (
            *({"row": row} for row in (-1, 6, 10**30, 0.5, "0", None, [0], True)),
            *({"seen": seen} for seen in (-1, "0", None)),
            *({"labels": x} for x in ([], ["unknown"], list(NAMES), [0], "neutral", [["neutral"]])),
            {"more": 1},
        ):
            assert server.ask("/answer", {**body, **change}, JSON)[0] == 422, change
        for raw in (b"", b"[]", b"{" * 5000, b"\xff\xfe", b'{"row": NaN}'):
            assert server.ask("/answer", raw, JSON)[0] == 422
        assert server.ask("/answer", b" " * (1 << 20), JSON)[0] == 413
        for path in ("/next.csv", "/../next.csv", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd"):
            assert server.ask(path)[0] == 404, path
        for path in ("/docs", "/openapi.json", "/next.csv.review/answers.jsonl"):
            assert server.ask(path)[0] == 404, path
        assert server.ask("/review", None, {"Host": "evil.example"})[0] == 421
        assert server.ask("/review")[1]["seen"] == 0
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.2", server.port), timeout=5)
        assert server.ask("/answer", body, {**JSON, **own})[0] == 200
        server.process.kill()
        server.process.wait()
    assert file.read_bytes() != content or '"mark": ["neutral"]' in (
        Path("next.csv.review/answers.jsonl").read_text()
    )


def test_the_page_may_load_nothing_and_stand_in_no_frame() -> None:
    with started("review", str(write_next(Path("next.csv")))) as server:
        line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        line.request("GET", "/")
        reply = line.getresponse()
        policy, page = reply.headers["Content-Security-Policy"], reply.read().decode()
        line.close()
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "innerHTML" not in page
    assert "//" not in page.split("<style>")[1].split("</style>")[0]


def test_of_two_windows_the_second_sees_what_the_first_answered() -> None:
    with started("review", str(write_next(Path("next.csv")))) as server:
        old = server.ask("/review")[1]
        answer(server, "neutral", old)
        body = {"row": 0, "seen": old["seen"], "labels": ["positive"]}
        status, reply = server.ask("/answer", body, JSON)
        assert status == 409
        assert (reply["review"]["row"], reply["review"]["answered"]) == (1, 1)
        now = reply["review"]["seen"]

        def give(label: str) -> int:
            return server.ask("/answer", {"row": 1, "seen": now, "labels": [label]}, JSON)[0]

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(give, NAMES * 4))
        assert sorted(statuses) == [200, *[409] * 11]
        assert server.ask("/undo", {"seen": now}, JSON)[0] == 409
        stop(server)
    labels = [row["label"] for row in rows_of(Path("next.csv"))]
    assert (labels[0], labels[1], labels[2]) == ("neutral", NAMES[statuses.index(200) % 3], "")


def test_two_servers_do_not_review_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    file = write_next(Path("next.csv"))
    with started("review", str(file)):
        with pytest.raises(SystemExit) as refused:
            main(["review", str(file), "--port", "0"])
        assert refused.value.code == ExitCode.MACHINE
        assert "being reviewed by another process" in capsys.readouterr().err


def test_skipped_rows_stay_skipped_until_they_are_asked_for() -> None:
    file = write_next(Path("next.csv"), rows=3)
    with started("review", str(file)) as server:
        for label in (None, "neutral", None):
            state = answer(server, label)
        assert state["row"] is None
        stop(server)
    with started("review", str(file)) as server:
        state = server.ask("/review")[1]
        assert (state["row"], state["skipped"]) == (None, 2)
        state = server.ask("/again", {"seen": state["seen"]}, JSON)[1]
        assert (state["row"], state["skipped"]) == (0, 0)
        answer(server, "positive")
        answer(server, "negative")
        stop(server)
    assert [row["label"] for row in rows_of(file)] == ["positive", "neutral", "negative"]


def test_a_table_that_another_program_changed_is_not_replaced() -> None:
    file = write_next(Path("next.csv"))
    with started("review", str(file)) as server:
        answer(server, "neutral")
        stop(server)
    with started("review", str(file)) as server:
        rows = rows_of(file)
        rows[5]["label"] = "positive"
        write_rows(file, rows)
        edited = file.read_bytes()
        answer(server, "negative")
        output = stop(server)
    assert file.read_bytes() == edited
    assert "Another program changed next.csv" in output
    with started("review", str(file)) as server:
        assert server.ask("/review")[1]["answered"] == 3
        stop(server)
    labels = [row["label"] for row in rows_of(file)]
    assert labels == ["neutral", "negative", "", "", "", "positive"]


def write_rows(file: Path, rows: Sequence[dict[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_a_table_that_vanished_is_said_and_the_answers_are_kept() -> None:
    file = write_next(Path("next.csv"))
    content = file.read_bytes()
    with started("review", str(file)) as server:
        file.unlink()
        assert answer(server, "neutral")["answered"] == 1
        assert "Another program changed next.csv" in stop(server)
    file.write_bytes(content)
    with started("review", str(file)) as server:
        stop(server)
    assert rows_of(file)[0]["label"] == "neutral"


def test_answers_to_other_rows_are_neither_used_nor_lost() -> None:
    file = write_next(Path("next.csv")).resolve()
    with open_session(read_review(ReviewRequest(file))) as session:
        session.mark(0, 0, Mark(("neutral",)))
    write_next(file, rows=9)  # as with --force: the old answers are in no table any more
    with open_session(read_review(ReviewRequest(file))) as session:
        assert session.state()["answered"] == 0
        session.mark(0, 0, Mark(("neutral",)))
        write_next(file, rows=3)
    with (
        pytest.raises(UserError, match="answers to other rows"),
        open_session(read_review(ReviewRequest(file))),
    ):
        pass
    assert '"mark": ["neutral"]' in Path("next.csv.review/answers.jsonl").read_text()


def test_an_answer_that_cannot_be_saved_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_next(Path("next.csv")).resolve()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with open_session(read_review(ReviewRequest(file))) as session:
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            with pytest.raises(OSError, match="No space"):
                session.mark(0, 0, Mark(("neutral",)))
        assert (session.row, session.seen) == (0, 0)
        session.mark(0, 0, Mark(("positive",)))
    assert rows_of(file)[0]["label"] == "positive"


def test_corrected_suspects_are_training_data() -> None:
    file = write_suspects(Path("suspects.csv"), rows=40)
    before = rows_of(file)
    with started("review", str(file)) as server:
        state = server.ask("/review")[1]
        assert state["shown"]["given"] == before[0]["label"]
        assert "90% have" in state["shown"]["reason"]
        answer(server, before[0]["suggested"])
        answer(server, before[1]["label"])
        after = answer(server, before[2]["suggested"])
        server.ask("/undo", {"seen": after["seen"]}, JSON)
        output = stop(server)
    assert "Labels changed: 1" in output
    assert "dataset.train=suspects.csv dataset.text=text dataset.label=label" in output
    rows = rows_of(file)
    labels = [row["label"] for row in rows]
    assert labels == [before[0]["suggested"], *(row["label"] for row in before[1:])]
    assert [row["given"] for row in rows] == [row["label"] for row in before]
    assert [row["reviewed"] for row in rows[:3]] == ["yes", "yes", ""]
    corpus = load_corpus(DatasetConfig(train=str(file)), 42)
    assert sum(map(len, corpus.splits.values())) == 40
    with started("review", str(file)) as server:
        state = server.ask("/review")[1]
        assert (state["row"], state["answered"]) == (2, 2)
        assert state["shown"]["given"] == before[2]["label"]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".tsv"])
def test_other_kinds_of_tables_keep_their_columns_and_types(suffix: str) -> None:
    import pyarrow as pa

    columns: dict[str, Any] = {
        "n": [1, 2],
        "meta": [{"a": [1]}, {"a": []}],
        "text": ["one", "two"],
        "queue": pa.array([None, None], pa.string()),
        "guess": ["x", "y"],
        "probabilities": ["x 0.70, y 0.30", "y 0.90, x 0.10"],
        "reason": ["", ""],
    }
    file = Path(f"next{suffix}").resolve()
    write_table(pa.table(columns), file)
    before = read_review(ReviewRequest(file))
    with open_session(before) as session:
        session.mark(0, 0, Mark(("y",)))
    after = read_review(ReviewRequest(file))
    assert after.columns["queue"][0] == "y"
    assert [before.columns[name] for name in columns if name != "queue"] == [
        after.columns[name] for name in columns if name != "queue"
    ]
    if suffix == ".parquet":
        assert after.window.schema == before.window.schema  # type: ignore[union-attr]


def test_labels_are_those_of_the_table_only_where_it_names_all() -> None:
    assert labels_of_shares(["b 0.50, a, c 0.50", "a, c 1.00"], Path("n.csv")) == ("a, c", "b")
    assert labels_of_shares(["10 0.60, 9 0.40"], Path("n.csv")) == ("9", "10")
    for cell in ("a 0.41, b 0.32, c 0.11, d 0.05, e 0.03, and 7 more", "a 0.90, b 0.80", ""):
        with pytest.raises(UserError, match="--run FOLDER"):
            labels_of_shares([cell], Path("n.csv"))


def run_folder(labels: Sequence[str], problem: str = "single_label", **dataset: Any) -> Path:
    """What `review` reads of a run."""
    settings = {f"dataset.{name}": value for name, value in dataset.items()}
    words = ("+task=classify", "checkpoint=minilm", "dataset.train=train.csv")
    config = compose(*words, settings=settings)
    Path("run").mkdir(exist_ok=True)
    write_text(Path("run/config.yaml"), json.dumps(as_dict(config)) + "\n")
    write_json(Path("run/run.json"), {"labels": list(labels), "problem": problem})
    return Path("run")


@pytest.mark.parametrize(
    ("dataset", "columns"),
    [
        ({"delimiter": "|"}, {"label": ["a", "b", "a|b", "a"] * 10}),
        ({}, {"label": ["['a']", "['b']", "['a', 'b']", "[]"] * 10}),
        ({"label": ["a", "b"]}, {"a": [1, 0, 1, 0] * 10, "b": [0, 1, 1, 0] * 10}),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_several_labels_are_written_as_train_has_them(
    dataset: dict[str, Any], columns: dict[str, list[Any]], suffix: str
) -> None:
    import pyarrow as pa

    texts = [f"text {i} {i * i} {i % 7}" for i in range(40)]
    write_table(pa.table({"text": texts, **columns}), Path("train.csv"))
    empty = pa.array([None] * 4, pa.string())
    new = {name: empty for name in columns}
    shares = ["a 0.90, b 0.80", "a 0.10, b 0.20", "b 0.60, a 0.50", "a 0.10, b 0.20"]
    new |= {"guess": ["a, b", "", "b", ""], "probabilities": shares, "reason": [""] * 4}
    file = Path(f"next{suffix}").resolve()
    write_table(pa.table({"text": [f"new {i} {i**3}" for i in range(4)], **new}), file)
    run = run_folder(("a", "b"), "multi_label", **dataset)
    with open_session(read_review(ReviewRequest(file, run))) as session:
        session.mark(0, 0, Mark(("a", "b")))
        session.mark(1, 1, Mark(("b",)))
        session.mark(2, 2, Mark(()))
    assert read_review(ReviewRequest(file, run)).answers() == [("a", "b"), ("b",), (), None]
    words = {"train": ["train.csv", str(file)], **dataset}
    if suffix == ".csv" and "delimiter" in dataset:  # where an empty cell may be an answer
        assert any("1 of the 4 rows" in x for x in load_corpus(DatasetConfig(**words), 42).notes)
    else:
        with pytest.raises(UserError, match=r"(?s)1 of the 4 rows .* no label"):
            load_corpus(DatasetConfig(**words), 42)
    corpus = load_corpus(DatasetConfig(**words, on_unlabeled=OnUnusable.drop), 42)
    got = {
        row["text"]: tuple(name for name, has in zip("ab", row["label"], strict=True) if has)
        for split in corpus.splits.values()
        for row in split
        if row["text"].startswith("new")
    }
    assert got == {"new 0 0": ("a", "b"), "new 1 1": ("b",), "new 2 8": ()}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_numbers_as_labels_fit_to_the_texts_that_are_filled_in(suffix: str) -> None:
    import pyarrow as pa

    texts = [f"text {i} {i * i}" for i in range(40)]
    write_table(pa.table({"text": texts, "label": [i % 3 for i in range(40)]}), Path(f"t{suffix}"))
    Path("next.csv").write_text("text,label,guess\nnew 1,2,1\nnew 2,0,1\n")
    for files in ([f"t{suffix}", "next.csv"], ["next.csv", f"t{suffix}"]):
        corpus = load_corpus(DatasetConfig(train=files), 42)
        assert corpus.labels == ("0", "1", "2")
        labels = {r["text"]: r["label"] for split in corpus.splits.values() for r in split}
        assert (labels["new 1"], labels["new 2"], labels[texts[4]]) == (2, 0, 1)


def test_lists_fit_to_lists_that_are_written_as_text() -> None:
    import pyarrow as pa

    texts = [f"text {i} {i * i}" for i in range(40)]
    lists = [[], ["a"], ["b"], ["a", "b"]] * 10
    write_table(pa.table({"text": texts, "label": lists}), Path("train.parquet"))
    Path("next.csv").write_text('text,label\nnew 1,"[""a"", ""b""]"\nnew 2,[]\n')
    corpus = load_corpus(DatasetConfig(train=["train.parquet", "next.csv"]), 42)
    assert corpus.labels == ("a", "b")
    labels = {r["text"]: r["label"] for split in corpus.splits.values() for r in split}
    assert (labels["new 1"], labels["new 2"]) == ([1, 1], [0, 0])


def test_names_of_labels_are_written_as_the_data_has_them() -> None:
    rows = [(f"text {i} {i * i}", str(i % 2)) for i in range(40)]
    write_csv(Path("train.csv"), rows)
    file = Path("next.csv").resolve()
    file.write_text("text,label,guess,probabilities,reason\nnew 1,,spam,spam 0.90,\nnew 2,,ham,,\n")
    run = run_folder(("ham", "spam"), label_names={"0": "ham", "1": "spam"})
    with open_session(read_review(ReviewRequest(file, run))) as session:
        assert session.state()["labels"] == ["ham", "spam"]
        session.mark(0, 0, Mark(("spam",)))
        session.mark(1, 1, Mark(("ham",)))
    assert [row["label"] for row in rows_of(file)] == ["1", "0"]
    names = {"0": "ham", "1": "spam"}
    corpus = load_corpus(DatasetConfig(train=["train.csv", str(file)], label_names=names), 42)
    assert sum(map(len, corpus.splits.values())) == 42


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        (None, (), "no such file"),
        ("text,label\na,b\n", (), "neither from `nlp-transfer suggest`"),
        ("text,label,guess,probabilities,reason\n", (), "has no rows"),
        ("guess,probabilities,reason\na,a 1.00,\n", (), "before 'guess'"),
        (
            "text,label,guess,probabilities,reason\nt,,a,a 1.00,\n",
            ("--run", "no"),
            "does not exist",
        ),
        ("text,label,guess,probabilities,reason\nt,,a,a 1.00,\n", ("--text", "no"), "not a column"),
        ("text,label,guess,probabilities,reason\nt\xfc,,a,a 1.00,\n", (), "save the file as UTF-8"),
    ],
)
def test_what_cannot_be_reviewed_is_refused(
    content: str | None, more: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path("next.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(SystemExit) as refused:
        main(["review", "next.csv", "--port", "0", *more])
    assert refused.value.code in (ExitCode.CONFIG, ExitCode.DATA)
    assert message in capsys.readouterr().err
    assert not Path("next.csv.review").exists()


def test_scores_are_not_reviewed() -> None:
    write_next(Path("next.csv"))
    with pytest.raises(UserError, match="spreadsheet"):
        read_review(ReviewRequest(Path("next.csv"), run_folder((), "regression")))


def test_a_label_that_was_filled_in_by_hand_can_be_given_too() -> None:
    file = write_next(Path("next.csv"))
    rows = rows_of(file)
    rows[0]["label"] = "unheard of"
    write_rows(file, rows)
    table = read_review(ReviewRequest(file, more_labels=("odd",)))
    assert table.labels.names == (*NAMES, "odd", "unheard of")
    assert table.answers()[:2] == [("unheard of",), None]


def test_cells_of_labels_are_read_as_they_are_written() -> None:
    for labels in (
        Labels(("a", "b"), ("y",), several=True, delimiter="|"),
        Labels(("a", "b"), ("y",), several=True),
        Labels(("a", "b"), ("a", "b"), several=True),
        Labels(("a", "b"), ("y",), written={"a": "0", "b": "1"}),
    ):
        for answer in ((), ("a",), ("b",), ("a", "b")) if labels.several else (("a",), ("b",)):
            assert labels.read(labels.cells(answer)) == answer
        assert labels.read(labels.cells(None)) is None


needs_browser = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium")


@needs_browser
@pytest.mark.slow
def test_twenty_rows_by_keyboard_killed_in_the_middle_and_continued(tmp_path: Path) -> None:
    file = write_next(Path("next.csv"), rows=20)
    generator, wanted = random.Random(5), []
    with running_browser(tmp_path) as browser:
        with started("review", str(file)) as server:
            page = browser.open(f"http://127.0.0.1:{server.port}/")
            for number in range(11):
                page.until(f"review !== null && review.row === {number} && !busy")
                text = page.value("document.querySelector('.text').textContent")
                assert text == rows_of(file)[number]["text"]
                if number == 4:  # a wrong label, taken back
                    page.press("1")
                    page.until("review.row === 5 && !busy")
                    page.press("u")
                    page.until("review.row === 4 && !busy")
                wanted.append(generator.choice((*NAMES, None)))
                page.press("s" if wanted[-1] is None else str(NAMES.index(wanted[-1]) + 1))
            page.until("review.row === 11 && !busy")
            server.process.kill()
            server.process.wait()
            port = server.port
            page.press("1")
            page.until("document.getElementById('error').textContent !== ''")
            assert page.value("review.row") == 11
        with started("review", str(file), "--port", str(port)) as server:
            page.until("document.getElementById('error').textContent === ''")
            for number in range(11, 20):
                page.until(f"review.row === {number} && !busy")
                wanted.append(generator.choice(NAMES))
                page.press(str(NAMES.index(wanted[-1]) + 1))
            page.until("review.row === null && !busy")
            skipped = wanted.count(None)
            assert skipped and f"{skipped} were skipped" in page.value("document.body.innerText")
            page.press("a")
            for _ in range(skipped):
                page.until("review.row !== null && !busy")
                wanted[wanted.index(None)] = "neutral"
                page.press("2")
            page.until("review.row === null && review.skipped === 0 && !busy")
            stop(server)
    assert [row["label"] for row in rows_of(file)] == wanted


@needs_browser
@pytest.mark.slow
def test_a_row_that_is_looked_at_for_long_and_other_keyboards_are_answered(tmp_path: Path) -> None:
    file = write_next(Path("next.csv"), rows=3)
    with running_browser(tmp_path) as browser, started("review", str(file)) as server:
        page = browser.open(f"http://127.0.0.1:{server.port}/")
        page.until("review !== null && review.row === 0")
        time.sleep(HEADER_SECONDS + 2)  # the server has closed the connection by now
        page.press("2")
        page.until("review.row === 1 && !busy")
        assert page.value("document.getElementById('error').textContent") == ""
        page.press("&", code="Digit1")  # the first of the number row on a French keyboard
        page.until("review.row === 2 && !busy")
        stop(server)
    assert [row["label"] for row in rows_of(file)] == ["neutral", "negative", ""]


@needs_browser
@pytest.mark.slow
def test_more_than_nine_labels_are_found_by_typing_and_two_windows_agree(tmp_path: Path) -> None:
    names = [f"reason_{word}" for word in ("alpha", "beta", "gamma", "delta", "zeta")]
    names += [f"cause {i}" for i in range(10)]
    file = write_next(Path("next.csv"), rows=3)
    run = run_folder([*NAMES, *names])
    with (
        running_browser(tmp_path) as browser,
        started("review", str(file), "--run", str(run)) as server,
    ):
        first, second = (browser.open(f"http://127.0.0.1:{server.port}/") for _ in range(2))
        for page in (first, second):
            page.until("review !== null && review.row === 0")
        first.press("/")
        for letter in "son zet":
            first.press(letter)
        first.press("Enter")
        first.until("review.row === 1 && !busy")
        second.press("3")
        second.until("review.row === 1 && document.getElementById('error').textContent !== ''")
        second.press("2")
        second.until("review.row === 2 && !busy")
        stop(server)
    assert [row["label"] for row in rows_of(file)] == ["reason_zeta", "positive", ""]
