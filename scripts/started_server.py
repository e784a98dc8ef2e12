"""Starts `nlp-transfer serve` or `review` as a person does: for tests, figures and pictures."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class StartedServer:
    """A process that serves."""

    process: subprocess.Popen[str]
    address: str
    """Of its page, as it is printed."""
    port: int


@contextmanager
def started(
    *typed: str,
    stdout: int | None = None,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
) -> Iterator[StartedServer]:
    """A command that serves, on a free port; killed at the end if it has not gone.

    Args:
        typed: the command and its arguments.
    """
    command = [sys.executable, "-m", "nlp_transfer.cli", *typed]
    if "--port" not in typed:
        command += ["--port", "0"]
    streams = {"stdout": stdout, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, cwd=cwd, env=env, **streams)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        match = re.search(r"http://127\.0\.0\.1:(\d+)\S*", line)
        assert match, line + process.stderr.read()
        yield StartedServer(process, match[0], int(match[1]))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
        if process.stdout is not None:
            process.stdout.close()
