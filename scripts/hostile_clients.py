"""Measures how `nlp-transfer serve` fares under clients that do not mean well.

    python scripts/hostile_clients.py runs/tickets --backend onnx

1,000 malformed bodies with and without a key, clients that send their headers, their body or
nothing at all slowly, clients that do not read, floods of headers, and thousands of idle
connections. Beside each of them an honest client asks `/healthz` and `/classify`; its slowest
answer, the memory of the server and its open files are printed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import resource
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from started_server import StartedServer, started

KEY = "a-key-of-this-measurement-only"
BODY = json.dumps({"texts": ["a fine film", "søup"]}).encode()
HEAD = (
    b"POST /classify HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"
)
PIECES = (
    b"{",
    b"]",
    b'"',
    b"null",
    b"1e999",
    b"\\ud800",
    b"\0",
    b"\xff",
    b"[" * 2000,
    b"true",
    b",",
)


class Server(StartedServer):
    """A process, and what it uses."""

    def connect(self, seconds: float = 60) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)

    def ask(self, path: str, body: bytes | None = None, key: str | None = KEY) -> int:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        try:
            line.request("GET" if body is None else "POST", path, body, headers)
            reply = line.getresponse()
            reply.read()
            return reply.status
        finally:
            line.close()

    def memory(self) -> float:
        """Megabytes now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+)", status)
        return int(match[1]) / 1024 if match else 0.0

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208


@contextmanager
def served(arguments: argparse.Namespace) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.write_text(KEY)
        more = ("--backend", arguments.backend, "--threads", "1", "--api-key-file", str(keys))
        with started("serve", arguments.run, *more) as server:
            assert server.process.stderr is not None
            threading.Thread(target=server.process.stderr.read, daemon=True).start()
            yield Server(server.process, server.address, server.port)


class Honest(threading.Thread):
    """A client that asks all the time, and remembers how long it waited."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.server, self.end = server, threading.Event()
        self.seconds: list[float] = []
        self.failures: Counter[str] = Counter()
        self.most_memory = 0.0
        self.most_files = 0

    def run(self) -> None:
        while not self.end.is_set():
            start = time.perf_counter()
            try:
                status = self.server.ask("/classify", BODY)
                if status != 200:
                    self.failures[str(status)] += 1
            except OSError as error:
                self.failures[type(error).__name__] += 1
            self.seconds.append(time.perf_counter() - start)
            self.most_memory = max(self.most_memory, self.server.memory())
            self.most_files = max(self.most_files, self.server.open_files())
            self.end.wait(0.05)


@contextmanager
def beside(server: Server, name: str) -> Iterator[dict[str, object]]:
    """Measure an honest client while something else goes on; prints a line of JSON."""
    honest, results = Honest(server), {}
    start = time.perf_counter()
    honest.start()
    yield results
    honest.end.set()
    honest.join()
    waits = sorted(honest.seconds)
    print(
        json.dumps(
            {
                "what": name,
                "seconds": round(time.perf_counter() - start, 1),
                **results,
                "honest_requests": len(waits),
                "honest_failures": dict(honest.failures),
                "honest_median_s": round(waits[len(waits) // 2], 3),
                "honest_slowest_s": round(waits[-1], 3),
                "memory_mb": round(honest.most_memory),
                "open_files": honest.most_files,
            }
        ),
        flush=True,
    )


def seconds_until_cut(lines: list[socket.socket], drip: bytes, most: float = 90) -> float:
    """How long the server lets connections live, which are sent a byte now and then."""
    start, alive = time.perf_counter(), set(lines)
    for line in lines:
        line.setblocking(False)
    while alive and time.perf_counter() - start < most:
        for line in list(alive):
            try:
                if drip:
                    line.send(drip)
                if not line.recv(65536):
                    alive.discard(line)
            except BlockingIOError:
                continue
            except OSError:
                alive.discard(line)
        time.sleep(0.5)
    for line in lines:
        line.close()
    return round(time.perf_counter() - start, 1) if not alive else float("inf")


def malformed(draw: random.Random) -> bytes:
    """A body with some of its bytes changed so that it is rarely one."""
    body = bytearray(BODY)
    for _ in range(draw.randint(1, 5)):
        at = draw.randrange(len(body) + 1)
        match draw.randrange(3):
            case 0:
                body[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del body[at : at + draw.randrange(1, 9)]
            case _:
                body[at:at] = draw.choice(PIECES)
    return bytes(body) or b"x"


def bodies(server: Server, count: int) -> None:
    draw = random.Random(0)
    for key, name in (
        (KEY, "with the key"),
        (None, "without a key"),
        (KEY[:-1], "with a wrong key"),
    ):
        with beside(server, f"{count} malformed bodies {name}") as results:
            statuses = Counter(server.ask("/classify", malformed(draw), key) for _ in range(count))
            results["statuses"] = {str(status): n for status, n in sorted(statuses.items())}


def slow(server: Server, count: int) -> None:
    """Clients that send slowly, or not at all."""
    for name, start, drip in (
        ("connections that send nothing", b"", b""),
        ("headers a byte at a time", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", b"x"),
        ("bodies a byte at a time", HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
        ("chunks without an end", HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ):
        with beside(server, f"{count} {name}") as results:
            lines = [server.connect() for _ in range(count)]
            for line in lines:
                with suppress(OSError):
                    line.sendall(start)
            results["cut_after_s"] = seconds_until_cut(lines, drip)


def readers(server: Server, count: int) -> None:
    """Clients that ask much and read nothing."""
    with beside(server, f"{count // 4} readers that do not read 40 answers each") as results:
        lines = []
        for _ in range(count // 4):
            line = server.connect()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            lines.append(line)
        start = time.perf_counter()
        request = (
            b"GET /docs HTTP/1.1\r\nHost: localhost\r\nX-API-Key: " + KEY.encode() + b"\r\n\r\n"
        )
        for line in lines:
            line.setblocking(False)
            with suppress(OSError):
                line.send(request * 40)
        alive = set(lines)
        while alive and time.perf_counter() - start < 90:
            for line in list(alive):
                try:  # Nothing is read: only whether the connection is still there.
                    line.send(b"\r\n")
                except BlockingIOError:
                    continue
                except OSError:
                    alive.discard(line)
            time.sleep(0.5)
        results["cut_after_s"] = round(time.perf_counter() - start, 1) if not alive else None
        for line in lines:
            line.close()


def half_open(server: Server, count: int) -> None:
    """Clients that stop sending, and clients that go away without a word."""
    with beside(server, f"{count} half-closed connections") as results:
        lines = [server.connect() for _ in range(count)]
        for line in lines:
            line.sendall(HEAD + b"Content-Length: 500\r\n\r\n{")
            line.shutdown(socket.SHUT_WR)
        results["cut_after_s"] = seconds_until_cut(lines, b"")
    with beside(server, f"{count} connections that are reset in their body"):
        for _ in range(count):
            line = server.connect()
            line.sendall(HEAD + b"Content-Length: 500\r\n\r\n{")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            line.close()


def floods(server: Server, count: int) -> None:
    """Headers without an end."""
    with beside(server, f"{count} floods of 1 MB of headers") as results:
        statuses: Counter[str] = Counter()
        for _ in range(count):
            with server.connect() as line:
                answer = b""
                with suppress(OSError):
                    line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
                    for _ in range(64):
                        line.sendall(b"X-A: " + b"b" * 16_000 + b"\r\n")
                with suppress(OSError):
                    answer = line.recv(100)
                statuses[answer[9:12].decode() or "cut"] += 1
        results["answers"] = dict(statuses)


def idle(server: Server, count: int) -> None:
    """Connections that do nothing, all at once."""
    with beside(server, f"{count} idle connections") as results:
        lines = []
        start = time.perf_counter()
        for _ in range(count):
            try:
                lines.append(server.connect())
            except OSError as error:
                results.setdefault("refused", type(error).__name__)
                break
        results["opened"] = len(lines)
        results["opened_in_s"] = round(time.perf_counter() - start, 1)
        results["cut_after_s"] = seconds_until_cut(lines, b"")


PARTS = {
    "bodies": (bodies, "bodies"),
    "slow": (slow, "clients"),
    "readers": (readers, "clients"),
    "half_open": (half_open, "clients"),
    "floods": (floods, "clients"),
    "idle": (idle, "idle"),
}


def main() -> None:
    """Print a line of JSON for each kind of client."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--backend", default="onnx")
    parser.add_argument("--bodies", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--only", choices=PARTS, nargs="*", default=list(PARTS))
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with served(arguments) as server:
        assert server.ask("/classify", BODY) == 200
        print(json.dumps({"memory_mb": round(server.memory()), "open_files": server.open_files()}))
        for part in arguments.only:
            measure, count = PARTS[part]
            measure(server, getattr(arguments, count))
        assert server.ask("/classify", BODY) == 200
        print(json.dumps({"memory_mb": round(server.memory()), "open_files": server.open_files()}))


if __name__ == "__main__":
    main()
