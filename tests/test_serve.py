"""`nlp-transfer serve`: right answers, refusals with a reason, and an end that loses nothing."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, SAMPLE_TEXTS
from fastapi.testclient import TestClient
from serving_process import Server, served, until

from nlp_transfer import Classifier
from nlp_transfer.cli.main import main
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.serving.app import make_app
from nlp_transfer.serving.batcher import LONG, Batcher, Limits, Refused, ServerMetrics

LARGEST, MOST, LONGEST = 20_000, 8, 9000  # bytes of a body; texts, characters of a request


@pytest.fixture(scope="module")
def folder(exported: Callable[[str], Any]) -> Path:
    """A tiny classifier, exported to ONNX."""
    return exported("bert").folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """One for all tests that do not end it."""
    limits = ("--max-body", LARGEST, "--max-texts", MOST, "--max-characters", LONGEST)
    with served(folder, *map(str, limits)) as running:
        yield running


def test_many_clients_at_once_get_each_their_own_answer(server: Server, folder: Path) -> None:
    classifier = Classifier.load(folder, "onnx", threads=1)
    expected = classifier.predict(SAMPLE_TEXTS)
    with ThreadPoolExecutor(16) as clients:
        replies = list(
            clients.map(lambda text: server.ask("/classify", {"text": text}), SAMPLE_TEXTS * 4)
        )
    for (status, reply), answer in zip(replies, expected * 4, strict=True):
        assert status == 200
        assert reply["label"] == answer.label
        assert reply["score"] == pytest.approx(answer.score, abs=1e-5)
        assert reply["probabilities"] == pytest.approx(answer.probabilities, abs=1e-5)
    status, reply = server.ask("/classify", {"texts": SAMPLE_TEXTS[:MOST]})
    assert [p["label"] for p in reply["predictions"]] == [a.label for a in expected[:MOST]]
    pairs = SAMPLE_TEXTS[1 : MOST + 1]
    status, reply = server.ask("/classify", {"texts": SAMPLE_TEXTS[:MOST], "text_pairs": pairs})
    expected = classifier.predict(SAMPLE_TEXTS[:MOST], pairs)
    for found_one, answer in zip(reply["predictions"], expected, strict=True):
        assert found_one["probabilities"] == pytest.approx(answer.probabilities, abs=1e-5)
    single = server.ask("/classify", {"text": SAMPLE_TEXTS[0], "text_pair": pairs[0]})[1]
    assert single["probabilities"] == pytest.approx(expected[0].probabilities, abs=1e-5)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 422, 'either "text" or "texts"'),
        ({"text": "a", "texts": ["b"]}, 422, 'either "text" or "texts"'),
        ({"text": " \n"}, 422, "text: expected a text"),
        ({"texts": ["a", ""]}, 422, "texts.1: expected a text"),
        ({"texts": []}, 422, "expected 1 to 8 texts, found 0"),
        ({"texts": ["a"] * 9}, 422, "expected 1 to 8 texts, found 9"),
        ({"text": 7}, 422, "text: Input should be a valid string"),
        ({"txt": "a"}, 422, "txt is not a key; expected {"),
        ({"text": "a", "text_pairs": ["b"]}, 422, "text_pair"),
        ({"texts": ["a", "b"], "text_pairs": ["c"]}, 422, "as many text_pairs as texts"),
        ({"texts": ["a"], "text_pair": "b"}, 422, "text_pairs"),
        (b" " * 9_000_000, 413, "more than the 20000 bytes"),
        ({"text": "a" * LARGEST}, 413, "more than the 20000 bytes"),
        ({"text": "a" * (LONGEST + 1)}, 422, "at most 9000 characters a request, found 9001"),
        (b"", 422, "Invalid JSON"),
        (b"\xff\xfe", 422, "Invalid JSON"),
        (b'{"text": "\\ud800"}', 422, "Invalid JSON"),
        (b'{"text": NaN}', 422, "text: "),
        (b"[" * 15_000, 422, "Invalid JSON"),
        (b'{"texts": ["a"], "texts": ["b"]}', 422, "texts stands twice"),
    ],
)
def test_what_is_not_answered_says_why(
    body: Any, status: int, message: str, server: Server
) -> None:
    actual, reason = server.ask("/classify", body)
    assert actual == status, reason
    assert message in reason["detail"]


def test_heads_marks_and_compressed_bodies_are_answered(server: Server) -> None:
    for path in ("/healthz", "/readyz"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
            line.sendall(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert line.recv(1000).startswith(b"HTTP/1.1 200")
    assert server.ask("/classify", b'\xef\xbb\xbf{"text": "a", "text_pair": "b"}')[0] == 200
    status, reason = server.ask("/classify", b"zz", {"Content-Encoding": "gzip"})
    assert (status, reason["detail"]) == (
        415,
        "the body is gzip: send it without a Content-Encoding.",
    )


def test_a_body_that_does_not_say_its_size_is_measured(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(
            b"POST /classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(3):
            line.sendall(b"2000\r\n" + b" " * 0x2000 + b"\r\n")
        line.sendall(b"0\r\n\r\n")
        assert line.recv(1000).startswith(b"HTTP/1.1 413")


def test_broken_bodies_are_never_a_fault_of_ours(server: Server) -> None:
    generator = random.Random(0)
    whole = json.dumps({"texts": ["fïne", "soup"], "text_pairs": ["a", "b"]}).encode()
    statuses = set()
    for _ in range(300):
        body = bytearray(whole)
        for _ in range(generator.randint(1, 6)):
            at = generator.randrange(len(body))
            match generator.randrange(3):
                case 0:
                    body[at] = generator.randrange(256)
                case 1:
                    del body[at : at + generator.randrange(9)]
                case _:
                    body[at:at] = generator.choice([b"{", b"]", b'"', b"null", b"1e999", b"\\u"])
            body = body or bytearray(b"x")
        status, _ = server.ask("/classify", bytes(body))
        statuses.add(status)
    assert 422 in statuses
    assert statuses <= {200, 413, 422}
    assert server.ask("/classify", {"text": "the cold soup"})[0] == 200


def test_it_says_how_it_is_and_what_it_answers(server: Server) -> None:
    assert server.ask("/classify", {"text": "the cold soup"})[0] == 200
    assert server.ask("/healthz") == (200, {"status": "alive"})
    assert server.ask("/readyz") == (200, {"status": "ready"})
    status, measured = server.ask("/metrics")
    assert status == 200
    assert re.search(r'^classify_requests_total\{status="200"\} [1-9]', measured, re.MULTILINE)
    assert "classify_seconds_bucket" in measured
    assert "cold soup" not in measured
    _, api = server.ask("/openapi.json")
    answer = api["components"]["schemas"]["Answer"]["properties"]
    assert answer["label"]["enum"] == list(LABELS)
    assert {"200", "413", "422", "503"} <= set(api["paths"]["/classify"]["post"]["responses"])
    for path, expected in (("/nowhere", 404), ("/classify", 405)):
        status, answer = server.ask(path)[:2]
        assert status == expected
        assert "POST /classify answers" in str(answer)


def test_the_page_needs_nothing_from_elsewhere(server: Server) -> None:
    status, page = server.ask("/")
    assert status == 200
    assert page == resources.files("nlp_transfer.serving").joinpath("page.html").read_text("utf-8")
    assert re.findall(r"https?:|//\w|src=|href=|@import|url\(", page) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write", page) == []
    assert "prefers-color-scheme: dark" in page
    status, docs = server.ask("/docs")
    assert status == 200
    assert re.findall(r"<script|src=|@import|url\(", docs) == []
    here = f"http://127.0.0.1:{server.port}"
    assert re.findall(r"https?:[^ ]+", docs) == [f"{here}/classify"]
    for words in ("POST /classify", "GET /model", f"curl {here}/classify", *LABELS):
        assert words in docs
    assert server.ask("/model")[1]["name"] in docs


def test_the_server_has_no_torch_in_it(server: Server) -> None:
    loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" in loaded
    assert "torch" not in loaded


def test_a_client_that_goes_away_in_its_body_costs_nothing(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(
            b'POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"te'
        )
    until(lambda: 'classify_requests_total{status="400"}' in server.ask("/metrics")[1])
    assert server.ask("/classify", {"text": "the cold soup"})[0] == 200


def test_what_is_in_flight_is_finished_before_the_end(folder: Path) -> None:
    body = json.dumps({"text": "the cold soup"}).encode()
    head = f"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with (
        served(folder) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as line,
    ):
        line.sendall(head.encode() + body[:5])
        assert server.ask("/healthz")[0] == 200  # by now the half request has been read
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.5)
        line.sendall(body[5:])
        assert line.recv(1000).startswith(b"HTTP/1.1 200")
        assert server.process.wait(20) == 0


def test_what_is_queued_together_runs_together_but_int8_alone(folder: Path) -> None:
    for backend, runs in (("onnx", 1), ("int8", 5)):
        classifier, metrics = Classifier.load(folder, backend, threads=1), ServerMetrics()
        batcher = Batcher(classifier, Limits(), metrics)
        waiting = [batcher.submit([text], None) for text in SAMPLE_TEXTS[:5]]
        assert batcher.waiting == 5
        batcher.start()
        batcher.stop()  # answers what is queued first
        answers = [future.result(0)[0] for future in waiting]
        for row, text in zip(answers, SAMPLE_TEXTS, strict=False):
            assert row == pytest.approx(classifier.probabilities([text])[0], abs=1e-6)
        sample = metrics.registry.get_sample_value
        assert sample("classify_texts_together_count") == runs
        assert sample("classify_texts_together_sum") == 5
        assert batcher.waiting == 0


def test_a_full_queue_refuses_and_a_batch_that_fails_ends_nothing(folder: Path) -> None:
    batcher = Batcher(Classifier.load(folder, "onnx", threads=1), Limits(queue=3), ServerMetrics())
    wrong = batcher.submit(["one text"], ["two", "pairs"])
    right = batcher.submit(["a", "b"], None)
    with pytest.raises(Refused, match="3 texts are waiting") as refused:
        batcher.submit(["c"], None)
    assert refused.value.status == 503
    given_up = right.cancel()
    batcher.start()
    with pytest.raises(UserError, match="1 texts and 2 second texts"):
        wrong.result(10)
    assert given_up
    assert len(batcher.submit(["c"], None).result(10)) == 1
    batcher.stop()


def test_a_full_server_says_so_and_when_to_come_again(folder: Path) -> None:
    classifier = Classifier.load(folder, "onnx", threads=1)
    held, going = threading.Event(), threading.Event()
    answer = classifier.engine.logits

    def waits(inputs: Any) -> Any:
        held.set()
        going.wait(20)
        return answer(inputs)

    classifier.engine.logits = waits  # type: ignore[method-assign]
    with TestClient(make_app(classifier, Limits(queue=2)), "http://localhost") as client:
        with ThreadPoolExecutor(2) as others:
            first = others.submit(client.post, "/classify", json={"text": "a film"})
            held.wait(20)
            second = others.submit(client.post, "/classify", json={"texts": ["a", "b"]})
            until(lambda: client.get("/readyz").status_code == 503)
            third = client.post("/classify", json={"text": "a film"})
            assert (third.status_code, third.headers["retry-after"]) == (503, "1")
            assert "2 texts are waiting, at most 2 may" in third.json()["detail"]
            going.set()
            assert [future.result(20).status_code for future in (first, second)] == [200, 200]
        assert client.get("/readyz").status_code == 200
        assert 'classify_requests_total{status="503"} 1.0' in client.get("/metrics").text
        # A long one counts as several: alone it is more than may wait.
        assert client.post("/classify", json={"text": "a " * 3 * LONG}).status_code == 503


def test_a_port_that_is_taken_is_one_clear_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(SystemExit) as refused:
        main(["serve", str(folder), "--backend", "onnx", "--port", str(listener.getsockname()[1])])
    assert refused.value.code == ExitCode.MACHINE
    assert "cannot be opened for listening" in capsys.readouterr().err


def test_a_package_that_is_missing_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "nlp_transfer.serving.app")
    monkeypatch.delattr("nlp_transfer.serving.app")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(SystemExit) as refused:
        main(["serve", str(folder), "--backend", "onnx"])
    assert refused.value.code == ExitCode.MACHINE
    output = capsys.readouterr().err
    assert output == "Error: This needs fastapi, which is not installed. " + (
        "Type pip install 'nlp_transfer[serve]'\n"
    )
