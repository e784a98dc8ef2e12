"""What the commands share: their declaration, common arguments, checks and the way to exit."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from nlp_transfer.config.choices import Quoting
from nlp_transfer.errors import ExitCode, UserError

if TYPE_CHECKING:
    from nlp_transfer.config.schema import Config

Parser: TypeAlias = argparse.ArgumentParser


@dataclass(frozen=True)
class Command:
    """One command of `nlp-transfer`."""

    name: str
    summary: str  # one sentence, for the list of commands
    add_arguments: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], None]
    description: str | None = None  # for `nlp-transfer NAME --help`; None: the summary


def fail(code: int, message: str) -> NoReturn:
    """Print one error message and exit with `code`.

    Of several processes only the first prints, except for a failure of training, which may
    happen on any of them.
    """
    if os.environ.get("RANK", "0") == "0" or code == ExitCode.TRAINING:
        print(_fitted(f"Error: {message}"), file=sys.stderr, flush=True)
    sys.exit(int(code))


def _fitted(message: str) -> str:
    """On a terminal lines are broken between words; in a file they are left to `grep`."""
    if not (sys.stderr and sys.stderr.isatty()):
        return message
    width = shutil.get_terminal_size().columns
    wrap = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(
        line if len(line) <= width else wrap.fill(line) for line in message.splitlines()
    )


def positive(text: str) -> int:
    """An argparse type: a whole number, 1 or more."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)


def add_folder(parser: Parser) -> None:
    """The folder of a model, and the threads it uses."""
    parser.add_argument("folder", type=Path, help="a finished run, or an exported folder")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads")


def add_backend(parser: Parser) -> None:
    """Which engine computes the answers."""
    from nlp_transfer.inference.engines import engine_names

    names = engine_names()
    parser.add_argument("--backend", choices=names, default="torch", help="engine (torch)")


def add_overrides(parser: Parser) -> None:
    """A configuration, as for training."""
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with your own YAML groups")
    parser.add_argument(
        "overrides", nargs="+", metavar="KEY=VALUE", help="as for training: +task=… dataset.train=…"
    )


def add_file_options(parser: Any) -> None:
    """How a file of texts is written."""
    parser.add_argument("--encoding", help="of a text file, as cp1252 (UTF-8, or by its mark)")
    parser.add_argument("--separator", metavar="SIGN", help="between cells (as the header shows)")
    parser.add_argument(
        "--quoting",
        choices=[style.value for style in Quoting],
        default=Quoting.double.value,
        help="quotes inside cells: doubled, or after a backslash; none: ordinary characters",
    )


def config_with_data(arguments: argparse.Namespace) -> Config:
    """The configuration; a wrong one, or one of absent files, is refused without torch."""
    from nlp_transfer.config.composition import compose

    overrides, config_dir = arguments.overrides, arguments.config_dir
    config = compose(*overrides, config_dir=config_dir, in_memory=False)
    from nlp_transfer.data.sources import refuse_absent_files

    refuse_absent_files(config.dataset)
    return config


def refuse_absent_folder(folder: Path) -> None:
    """Refuse the folder of a run that is not there, without torch."""
    from nlp_transfer.utils.files import runs_nearby

    if not folder.is_dir():
        there = f"there is no such folder (seen from {Path.cwd()}).{runs_nearby(folder)}"
        raise UserError(ExitCode.RUN_FOLDER, f"{folder}: {there}")


def add_out(parser: Any, help_text: str, default: Path | None = None) -> None:
    """A file for the result, which is not replaced unless --force says so."""
    parser.add_argument("--out", type=Path, metavar="FILE", help=help_text, default=default)
    parser.add_argument("--force", action="store_true", help="replace --out if it exists")


def check_out(out: Path | None, force: bool) -> None:
    """Check --out before anything is computed.

    Raises:
        UserError: if it cannot be written, or exists and --force is missing.
    """
    if out is None:
        return
    if not out.parent.is_dir():
        raise UserError(ExitCode.CONFIG, f"--out {out}: there is no folder {out.parent}.")
    if out.is_dir():
        raise UserError(ExitCode.CONFIG, f"--out {out} is a folder. Name a file.")
    if not os.access(out.parent, os.W_OK):
        raise UserError(
            ExitCode.RUN_FOLDER, f"--out {out}: the folder {out.parent} cannot be written."
        )
    if out.exists() and not force:
        raise UserError(ExitCode.CONFIG, f"--out {out} is there already. Add --force, or move it.")


def no_arguments(_: Any) -> None:
    """For a command without arguments."""
