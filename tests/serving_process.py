"""Asks a server that `nlp-transfer serve` or `review` has started."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import started_server


class Server(started_server.StartedServer):
    """A process that serves."""

    def ask(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """GET, or POST of some JSON (or of raw bytes)."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                status, body_read = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                status, body_read = error.code, error.read()
        try:
            return status, json.loads(body_read)
        except ValueError:
            return status, body_read.decode()


@contextmanager
def served(folder: Path, *more: str) -> Iterator[Server]:
    """Started as a person does, with ONNX; killed at the end if it has not gone."""
    typed = ("--backend", "onnx", "--threads", "1", *more)
    with started("serve", str(folder), *typed) as server:
        yield server


@contextmanager
def started(*typed: str) -> Iterator[Server]:
    """A command that serves on any free port; killed at the end if it has not gone."""
    with started_server.started(*typed, stdout=subprocess.PIPE) as server:
        yield Server(server.process, server.address, server.port)


def until(noticed: Callable[[], bool]) -> None:
    """Wait for what another thread or process is about to do, but not forever."""
    end = time.monotonic() + 20
    while not noticed():
        assert time.monotonic() < end
