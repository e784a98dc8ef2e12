"""Starts `nlp-transfer serve` and `review` as a person does, for tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Server:
    """A process that serves."""

    process: subprocess.Popen[str]
    port: int

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
    with started("serve", str(folder), "--backend", "onnx", "--threads", "1", *more) as server:
        yield server


@contextmanager
def started(*typed: str) -> Iterator[Server]:
    """A command that serves on any free port; killed at the end if it has not gone."""
    command = [sys.executable, "-m", "nlp_transfer.cli", *typed]
    if "--port" not in typed:
        command += ["--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None and process.stdout is not None
    try:
        line = process.stderr.readline()
        match = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert match, line + process.stderr.read()
        yield Server(process, int(match[1]))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def until(noticed: Callable[[], bool]) -> None:
    """Wait for what another thread or process is about to do, but not forever."""
    end = time.monotonic() + 20
    while not noticed():
        assert time.monotonic() < end
