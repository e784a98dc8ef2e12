"""Finds the command blocks of README and docs, reads their command lines, and runs them.

A block is a fence of `bash` or `python`. A comment on the line before it says what is special:

    <!-- not run: REASON -->     it cannot run here; a reader can
    <!-- file: NAME -->          the block (of any language) is a file that later blocks use
    <!-- exit: CODE -->          the last command leaves with this code; a block of `text` that
                                 follows has to occur in what it prints
    <!-- background -->          the block is a server; later blocks talk to it

Each page runs in a folder of its own that holds the files of `docs/data`.
`python tests/documented.py` prints how many blocks run.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COMMANDS = ("bash", "python")
MARK = re.compile(r"<!-- (not run|file|exit|background)(?:: (.+?))? -->")
OPERATORS = {"|", ">", ">>", "<", "&&", "||", ";", "&", "2>"}
SECONDS = 1200  # for one block
# Runs the Python blocks of a page one after another, in one process of its own.
INTERPRETER = """
import json, sys, traceback
names, answers = {"__name__": "documented"}, sys.stdout
sys.stdout = sys.stderr
for line in sys.stdin:
    block = json.loads(line)
    try:
        exec(compile(block["text"], block["name"], "exec"), names)
        print("done", file=answers, flush=True)
    except BaseException:
        print(repr(traceback.format_exc()), file=answers, flush=True)
"""


@dataclass(frozen=True)
class Block:
    """One fence."""

    page: Path
    line: int
    language: str
    text: str
    mark: str | None = None
    value: str = ""

    @property
    def runs(self) -> bool:
        """Whether it is a command that a test executes."""
        return self.language in COMMANDS and self.mark not in ("not run", "file")

    @property
    def is_command(self) -> bool:
        """Whether a reader would type it."""
        return self.language in COMMANDS and self.mark != "file"

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README and every page of the docs that is written by hand."""
    of_docs = sorted(DOCS.rglob("*.md"))
    return [ROOT / "README.md", *(p for p in of_docs if "_generated" not in p.parts)]


def blocks(page: Path) -> list[Block]:
    """The fences of a page, in order."""
    blocks_of_page, lines = [], page.read_text("utf-8").splitlines()
    at = 0
    while at < len(lines):
        match = re.fullmatch(r"(`{3,})([a-z]+)", lines[at])
        if not match:
            at += 1
            continue
        end = lines.index(match[1], at + 1)
        before = next((line for line in reversed(lines[:at]) if line.strip()), "")
        mark = MARK.fullmatch(before.strip())
        kind, value = (mark[1], mark[2] or "") if mark else (None, "")
        text = "\n".join(lines[at + 1 : end]) + "\n"
        blocks_of_page.append(Block(page, at + 1, match[2], text, kind, value))
        at = end + 1
    return blocks_of_page


def command_lines(block: Block) -> Iterator[list[str]]:
    """The words of every command of ours in a bash block, from its name on."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = next((i for i, word in enumerate(words) if word in OPERATORS), len(words))
            command, words = words[:end], words[end + 1 :]
            for place, word in enumerate(command):
                if word == "nlp_transfer.train":
                    yield ["train", *command[place + 1 :]]
                    break
                if word in ("nlp-transfer", "nlp_transfer.cli"):
                    yield command[place + 1 :]
                    break


def copy_data(folder: Path) -> None:
    """Put the example files where the commands expect them."""
    shutil.copytree(DOCS / "data", folder, dirs_exist_ok=True)


@dataclass
class Session:
    """Runs the blocks of one page in a folder."""

    folder: Path
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    interpreter: subprocess.Popen[str] | None = None

    def run(self, block: Block, shown: Block | None = None) -> None:
        """Write its file, or run it.

        Args:
            shown: the block after it.

        Raises:
            AssertionError: with the output of a command that left with another code.
        """
        if block.mark == "file":
            (self.folder / block.value).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / block.value).write_text(block.text, "utf-8")
        elif block.mark == "background":
            self._start(block)
        elif block.runs and block.language == "python":
            self._python(block)
        elif block.runs:
            done = self._bash(block.text)
            output = done.stdout.decode() + done.stderr.decode()
            assert done.returncode == int(block.value or 0), f"{block}\n{output[-4000:]}"
            if block.mark == "exit" and shown is not None and shown.language == "text":
                assert " ".join(shown.text.split()) in " ".join(output.split()), output

    def _python(self, block: Block) -> None:
        if self.interpreter is None:
            self.interpreter = subprocess.Popen(
                [sys.executable, "-c", INTERPRETER],
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        questions, answers = self.interpreter.stdin, self.interpreter.stdout
        assert questions is not None and answers is not None
        print(json.dumps({"text": block.text, "name": str(block)}), file=questions, flush=True)
        answer = answers.readline().strip()
        assert answer == "done", f"{block}\n{answer}"

    def _bash(self, text: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )

    def _start(self, block: Block) -> None:
        log = self.folder / f"server-{block.line}.txt"
        command = ["bash", "-c", f"exec {block.text.strip()}"]
        with log.open("wb") as file:
            options = {"cwd": self.folder, "env": environment(), "stderr": file}
            server = subprocess.Popen(command, **options)
        self.servers.append(server)
        for _ in range(600):
            if b"http://" in log.read_bytes():
                return
            assert server.poll() is None, f"{block}: the server has ended"
            time.sleep(0.2)
        raise AssertionError(f"{block}: the server does not listen")

    def close(self) -> None:
        """Stop the interpreter and the servers."""
        if self.interpreter is not None:
            self.interpreter.communicate(timeout=60)
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


@contextmanager
def session(folder: Path) -> Iterator[Session]:
    """A page's folder with the example files."""
    copy_data(folder)
    opened = Session(folder)
    try:
        yield opened
    finally:
        opened.close()


def environment() -> dict[str, str]:
    """The commands are those of this interpreter."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def counted(every: Sequence[Block]) -> str:
    """How many command blocks run, and why the others do not."""
    commands = [block for block in every if block.is_command]
    lines = [f"{sum(block.runs for block in commands)} of {len(commands)} command blocks run"]
    lines += [f"  not run: {block}: {block.value}" for block in commands if not block.runs]
    return "\n".join(lines)


if __name__ == "__main__":
    print(counted([block for page in pages() for block in blocks(page)]))
