"""A server that others can reach: keys, host names, limits, a log without texts, reloading."""

from __future__ import annotations

import http.client
import io
import json
import logging
import os
import shutil
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE_TEXTS
from fastapi.testclient import TestClient
from serving_process import Server, served, until

from nlp_transfer import Classifier
from nlp_transfer.cli.main import main
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.serving import connections
from nlp_transfer.serving.app import make_app
from nlp_transfer.serving.protection import Access, read_keys

KEY, OTHER = "0123456789abcdef-first", "0123456789abcdef-second"
EVERY_PATH = ("/classify", "/model", "/metrics", "/docs", "/openapi.json", "/-/reload", "/nowhere")


@pytest.fixture(scope="module")
def folder(exported: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(exported("bert").folder, tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """With two keys."""
    keys = folder.parent / "keys"
    keys.write_text(f"{KEY}\n\n{OTHER}\n")
    with served(folder, "--api-key-file", str(keys)) as running:
        yield running


def client(folder: Path, access: Access) -> TestClient:
    """An application in this process."""
    classifier = Classifier.load(folder, "onnx", threads=1)
    return TestClient(make_app(classifier, access=access), "http://localhost")


def test_nothing_is_answered_without_a_key(server: Server) -> None:
    body = {"text": SAMPLE_TEXTS[0]}
    wrong = [{}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {KEY}"}]
    wrong += [{"X-API-Key": KEY[:-1]}, {"Authorization": f"Bearer {KEY}x"}, {"X-API-Key": ""}]
    for path in EVERY_PATH:
        for headers in wrong:
            for content in (None, body):
                status, reason = server.ask(path, content, headers)
                assert status == 401, (path, headers)
                assert "expected an API key" in reason["detail"]
    for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-API-Key": OTHER}):
        assert server.ask("/classify", body, headers)[0] == 200
        assert server.ask("/docs", None, headers)[0] == 200
    for path in ("/", "/healthz", "/readyz"):  # these say nothing of the model
        assert server.ask(path)[0] == 200


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), ("", "found no key"), ("short\n", "found a key of 5 characters")],
)
def test_a_key_file_that_protects_nothing_is_refused(
    content: str | None, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path("keys").write_text(content)
    with pytest.raises(UserError, match=words):
        read_keys(Path("keys"))
    with pytest.raises(SystemExit) as refused:
        main(["serve", str(folder), "--api-key-file", "keys"])
    assert refused.value.code == ExitCode.CONFIG
    assert "short" not in capsys.readouterr().err


def test_a_page_of_another_site_cannot_use_the_server_by_its_own_name(folder: Path) -> None:
    access = Access(hosts=("models.example.org",), origins=("https://good.example",))
    with client(folder, access) as page:
        body = {"text": SAMPLE_TEXTS[0]}
        for host in ("localhost:8000", "127.0.0.1", "[::1]:80", "10.1.2.3", "Models.Example.org"):
            assert page.post("/classify", json=body, headers={"host": host}).status_code == 200
        for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""):
            assert page.post("/classify", json=body, headers={"host": host}).status_code == 421
        assert page.get("/healthz", headers={"host": "10-1-2-3.pod"}).status_code == 200
        preflight = {"origin": "https://good.example", "access-control-request-method": "POST"}
        good = page.options("/classify", headers=preflight)
        assert good.headers["access-control-allow-origin"] == "https://good.example"
        bad = page.options("/classify", headers={**preflight, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in bad.headers
    with client(folder, Access(hosts=("*",))) as page:
        assert page.get("/model", headers={"host": "any.example"}).status_code == 200
        reply = page.get("/model", headers={"origin": "https://good.example"})
        assert "access-control-allow-origin" not in reply.headers


def test_a_client_has_its_number_of_requests_a_minute(folder: Path) -> None:
    with client(folder, Access(requests_per_minute=3)) as page:
        replies = [page.get("/model") for _ in range(5)]
        assert [reply.status_code for reply in replies] == [200, 200, 200, 429, 429]
        assert 1 <= int(replies[-1].headers["retry-after"]) <= 21
        assert page.get("/healthz").status_code == 200


def test_the_log_has_a_line_of_json_for_each_request_and_never_a_text_or_a_key(
    folder: Path,
) -> None:
    log = io.StringIO()
    digests = read_keys_of(KEY)
    app = make_app(Classifier.load(folder, "onnx", threads=1), access=Access(keys=digests, log=log))
    with TestClient(app, "http://localhost", root_path="/models/one") as page:
        headers = {"authorization": f"Bearer {KEY}", "x-request-id": "mine-1"}
        reply = page.post("/classify?secret=unmistakable", json={"text": "hush"}, headers=headers)
        assert reply.headers["x-request-id"] == "mine-1"
        strange = page.get("/healthz", headers={"x-request-id": "two words"})
        assert len(strange.headers["x-request-id"]) == 32
        assert page.get("/model").status_code == 401
        # A proxy may take the prefix off or leave it.
        assert page.get("/models/one/model", headers=headers).status_code == 200
        assert page.get("/openapi.json", headers=headers).json()["servers"] == [
            {"url": "/models/one"}
        ]
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["path"], line["status"]) for line in lines][:3] == [
        ("/classify", 200),
        ("/healthz", 200),
        ("/model", 401),
    ]
    assert lines[0]["id"] == "mine-1"
    assert lines[0]["ms"] > 0
    for secret in (KEY, "hush", "unmistakable"):
        assert secret not in log.getvalue()


def read_keys_of(*keys: str) -> tuple[bytes, ...]:
    """As from a file that only its owner may read."""
    Path("keys").write_text("\n".join(keys))
    Path("keys").chmod(stat.S_IRUSR | stat.S_IWUSR)
    return read_keys(Path("keys"))


def test_a_newer_model_replaces_the_old_one_only_once_it_answers(
    folder: Path, server: Server
) -> None:
    headers = {"X-API-Key": KEY}
    weights = folder / "onnx/model.onnx"
    before = server.ask("/classify", {"text": SAMPLE_TEXTS[0]}, headers)
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    status, reason = server.ask("/-/reload", {}, headers)
    assert status == 409, reason
    assert "the old model stays" in reason["detail"]
    assert server.ask("/classify", {"text": SAMPLE_TEXTS[0]}, headers) == before
    weights.write_bytes(whole)
    assert server.ask("/-/reload", {}, headers) == (200, {"status": "reloaded"})
    assert server.ask("/classify", {"text": SAMPLE_TEXTS[0]}, headers) == before
    os.kill(server.process.pid, signal.SIGHUP)
    for _ in range(20):
        assert server.ask("/classify", {"text": SAMPLE_TEXTS[0]}, headers) == before
    assert server.process.poll() is None


def test_requests_go_on_while_a_model_is_replaced_and_other_labels_are_refused(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    classifier = Classifier.load(folder, "onnx", threads=1)
    other = Classifier.load(folder, "onnx", threads=1)
    loaded = [Classifier.load(folder, "onnx", threads=1), other]
    access = Access(keys=read_keys_of(KEY))
    app = make_app(classifier, access=access, load=lambda: loaded.pop(0))
    headers = {"x-api-key": KEY}
    with TestClient(app, "http://localhost", headers=headers) as page:
        first = app.state.service.batcher
        assert page.post("/-/reload").json() == {"status": "reloaded"}
        assert app.state.service.batcher is not first
        assert not first.alive
        assert page.post("/classify", json={"text": "a film"}).status_code == 200
        names = tuple(reversed(other.decoder.labels))
        object.__setattr__(other.decoder, "labels", names)
        refused = page.post("/-/reload")
        assert (refused.status_code, "other labels" in refused.text) == (409, True)
        assert app.state.service.classifier.decoder.labels == classifier.decoder.labels
    without = make_app(Classifier.load(folder, "onnx", threads=1), load=lambda: other)
    with TestClient(without, "http://localhost") as page, caplog.at_level(logging.ERROR):
        assert page.post("/-/reload").status_code == 403


def test_slow_and_silent_clients_are_cut_off_and_large_headers_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threading import Thread

    import uvicorn

    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.6)
    monkeypatch.setattr(connections, "READER_SECONDS", 0.6)
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 40)
    app = make_app(Classifier.load(folder, "onnx", threads=1))

    @app.get("/large")
    async def large() -> str:
        return "x" * (64 << 20)

    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    settings = uvicorn.Config(
        app,
        http=connections.BoundedProtocol,
        ws="none",
        log_level="critical",
        h11_max_incomplete_event_size=connections.HEADER_BYTES,
    )
    running = uvicorn.Server(settings)
    thread = Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()

    def is_healthy() -> bool:
        line = http.client.HTTPConnection(*address, timeout=10)
        line.request("GET", "/healthz")
        status = line.getresponse().status
        line.close()
        return status == 200

    try:
        assert is_healthy()
        for start in (b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "):
            with socket.create_connection(address, timeout=10) as line:
                line.sendall(start)
                assert is_cut(line, drip=bool(start)) < 3
        with socket.create_connection(address, timeout=10) as line:
            line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 9000)
            assert line.recv(100).startswith(b"HTTP/1.1 400")
        with socket.create_connection(address, timeout=10) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            # It does not read: the server lets go of it.
            until(lambda: not running.server_state.connections)
        idle = [socket.create_connection(address, timeout=10) for _ in range(100)]
        # They do not keep others out: those that have been idle longest make room.
        assert is_healthy()
        assert len(running.server_state.connections) <= 42
        assert max(is_cut(line, drip=False) for line in idle) < 5
        until(lambda: not running.server_state.connections)
        assert is_healthy()
        for line in idle:
            line.close()
    finally:
        running.should_exit = True
        thread.join(20)


def is_cut(line: socket.socket, drip: bool) -> float:
    """Seconds until the server closes a connection, which sends a byte now and then."""
    began = time.monotonic()
    line.settimeout(0.1)
    while time.monotonic() - began < 10:
        try:
            if drip:
                line.sendall(b"x")
            if not line.recv(10):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began
