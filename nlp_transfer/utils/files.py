"""Reads and writes small files, whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nlp_transfer.errors import damaged, no_file

if TYPE_CHECKING:
    from nlp_transfer.data.formats.registry import Window

SHOWN_RUNS = 5  # in an error
OS_ERROR = re.compile(r"\(os error (\d+)\)")
NESTED = (dict, list, tuple)


def read_json(path: Path) -> dict[str, Any]:
    """One of the files of a run.

    Raises:
        UserError: it is not there or not whole, as after a copy that was broken off.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise damaged(path, no_file(path)) from error
    except ValueError as error:
        raise damaged(path, f"it is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise damaged(path, "it holds no JSON object")
    return content


def read_run_file(path: Path) -> dict[str, Any]:
    """`run.json`.

    Raises:
        UserError: it is not there or not whole, or does not say how far the run is.
    """
    about = read_json(path)
    if "state" not in about:
        raise damaged(path, "it does not say how far the run is")
    return about


def not_a_run(folder: Path) -> str:
    """The beginning of an error about a folder that is no run.

    >>> not_a_run(Path("no", "such", "place"))
    'no/such/place does not exist'
    """
    return f"{folder} {'is not a run' if folder.exists() else 'does not exist'}"


def runs_nearby(folder: Path) -> str:
    """The end of an error about a folder that is no run: runs in it, or beside it; may be empty.

    >>> runs_nearby(Path("no", "such", "place"))
    ''
    """
    runs = [file.parent for file in sorted(folder.glob("*/run.json"))] if folder.name else []
    if runs:
        more = " …" if len(runs) > SHOWN_RUNS else ""
        return f" It holds runs; name one of them: {', '.join(map(str, runs[:SHOWN_RUNS]))}{more}."
    if folder.exists():
        return ""
    beside = {file.parent.name: file.parent for file in folder.parent.glob("*/run.json")}
    close = get_close_matches(folder.name, beside, n=1)
    return f" Did you mean {beside[close[0]]}?" if close else ""


def write_json(path: Path, content: Any) -> None:
    """One of the files of a run, whole or not at all."""
    write_text(path, indented(content) + "\n")


def indented(content: Any, indent: str = "") -> str:
    """JSON in lines; a list of numbers or names is one of them.

    Python's own has a line for each number: the figures of 1,000 labels took 22 MB, and take 6.
    """
    inner, ends = f"{indent}  ", "{}" if isinstance(content, dict) else "[]"
    if isinstance(content, dict) and content:
        names = (json.dumps({key: 0}, ensure_ascii=False)[1:-3] for key in content)
        lines = [f"{k} {indented(v, inner)}" for k, v in zip(names, content.values(), strict=True)]
    elif isinstance(content, list | tuple) and any(isinstance(x, NESTED) for x in content):
        lines = [indented(item, inner) for item in content]
    else:
        return json.dumps(content, ensure_ascii=False)
    return f"{ends[0]}\n{inner}" + f",\n{inner}".join(lines) + f"\n{indent}{ends[1]}"


def write_text(path: Path, content: str) -> None:
    """Whole or not at all."""
    with written_aside(path) as partial:
        partial.write_text(content, encoding="utf-8")


@contextmanager
def written_aside(path: Path, suffix: str = ".part") -> Iterator[Path]:
    """Where a file is written before it takes its name; where that fails, nothing is left there.

    Args:
        suffix: of the name beside it; one of its own for each process, where several write.
    """
    partial = path.with_name(f"{path.name}{suffix}")
    try:
        yield partial
        partial.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Libraries in Rust report a full disk by classes of their own; from here it is an `OSError`.

    Args:
        path: what is written meanwhile.
    """
    try:
        yield
    except Exception as error:
        number = OS_ERROR.search(str(error))
        if isinstance(error, OSError) or number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from error


def write_durably(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Whole or not at all, and on the disk when this returns; the mode of the file stays."""
    with written_aside(path) as partial:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            partial.chmod(path.stat().st_mode & 0o777)
    sync_folder(path.parent)


def write_table(window: Window, path: Path) -> None:
    """A whole table in the format of the file's suffix; durable, as `write_durably`."""
    from nlp_transfer.data.formats.windows import (  # pyarrow: few files are tables
        WindowWriter,
        kind_of,
    )

    writer = WindowWriter(kind_of(path), window)
    write_durably(path, lambda file: writer.write_whole(window, file))


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive the machine, where the system offers that."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
