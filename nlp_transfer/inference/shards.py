"""Writes answers in parts that survive a kill, shared among workers, and joins them to a file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_transfer.data.formats.registry import Window
from nlp_transfer.data.formats.windows import WindowWriter
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.utils.files import written_aside
from nlp_transfer.utils.locks import Locked, locked

ABOUT = "about.json"
LOCK = "lock-"
WAIT = 0.2  # seconds between two looks for other workers


@dataclass(frozen=True)
class Worker:
    """One process of a launch; it answers every `count`-th window."""

    rank: int
    count: int

    @classmethod
    def of_launch(cls) -> Worker:
        """As `torchrun` and `accelerate launch` say in the environment.

        Raises:
            UserError: if the launch is on several machines.
        """
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) != count:
            raise UserError(
                ExitCode.MACHINE,
                "predict runs on one machine (WORLD_SIZE says that there are more, or no launcher "
                "has set LOCAL_WORLD_SIZE). Cut the file, and start it once on each.",
            )
        return cls(int(os.environ.get("RANK", "0")), count)


@contextmanager
def entered(home: Path, identity: dict[str, Any], worker: Worker) -> Iterator[None]:
    """The folder of the parts, locked, which says what they answer.

    Raises:
        UserError: if it is another's, or answers another question.
    """
    there = [path.name for path in home.iterdir()] if home.exists() else []
    if ABOUT not in there and not all(name.startswith((ABOUT, LOCK)) for name in there):
        raise UserError(
            ExitCode.CONFIG,
            f"{home} was not written by predict. Remove it, or choose another --out.",
        )
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(home / f"{LOCK}{worker.rank}", wait=False))
        except Locked as error:
            raise UserError(
                ExitCode.RUN_FOLDER, f"Another process is writing these answers ({home})."
            ) from error
        _identify(home, identity)
        yield


def _identify(home: Path, identity: dict[str, Any]) -> None:
    about = home / ABOUT
    if about.is_file():
        there = json.loads(about.read_text(encoding="utf-8"))
        different = sorted(name for name in identity if there.get(name) != identity[name])
        if different and parts_of(home):
            raise UserError(
                ExitCode.CONFIG,
                f"{home} holds unfinished answers of another command ({', '.join(different)} "
                "differ). Remove that folder, or write to another file with --out.",
            )
        if "bytes" not in identity["source"]:
            for part in parts_of(home):
                (home / part).unlink()  # a stream cannot be read a second time
    partial = home / f"{ABOUT}.{os.getpid()}"
    partial.write_text(json.dumps(identity), encoding="utf-8")
    partial.replace(about)


def parts_of(home: Path) -> set[str]:
    """The windows that are answered."""
    return {part.name for part in home.iterdir() if part.name.isdecimal()}


def finish(home: Path, worker: Worker) -> None:
    """Say that this worker is done; the first waits until all are."""
    launch = os.getppid()  # an earlier launch, which was killed, may have left its own marks
    if worker.rank:
        (home / f"done-{worker.rank}.{launch}").touch()
        return
    others = [home / f"done-{rank}.{launch}" for rank in range(1, worker.count)]
    while not all(mark.exists() for mark in others):
        time.sleep(WAIT)


def write_part(writer: WindowWriter, window: Window, part: Path) -> None:
    """The answers of one window, to be joined with others."""
    with written_aside(part, f".{os.getpid()}") as partial, partial.open("wb") as file:
        writer.write(window, file)


def write_whole(writer: WindowWriter, window: Window, path: Path) -> None:
    """The answers to a table that is a single window."""
    with written_aside(path, f".{os.getpid()}") as partial, partial.open("wb") as file:
        writer.write_whole(window, file)
