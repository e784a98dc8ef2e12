"""The doors for finished runs: `nlp-transfer export / predict / serve`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nlp_transfer.errors import ExitCode, UserError

Doors = Any  # argparse keeps the type of `add_subparsers` to itself


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in the same words, and with the same code, as everything else."""

    def error(self, message: str) -> Any:
        raise UserError(ExitCode.CONFIG, f"{message} ({self.prog} --help)")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit codes are those of `ExitCode`."""
    try:
        asked = _parser().parse_args(arguments)
        asked.run(asked)
    except UserError as error:
        _fail(error.code, str(error))
    except BrokenPipeError:
        # Whoever read our answers has gone; nothing more can be written, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(130, "The reader of the answers has gone.")
    except KeyboardInterrupt:
        _fail(130, "Interrupted.")


def _fail(code: int, message: str) -> None:
    # What all processes of a launch find, the first one says.
    if os.environ.get("RANK", "0") == "0":
        print(f"Error: {message}", file=sys.stderr, flush=True)
    sys.exit(int(code))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nlp-transfer", description="What can be done with a finished run.")
    doors = parser.add_subparsers(required=True, metavar="DOOR")
    for declare in (_export,):
        declare(doors)
    return parser


def _door(doors: Doors, name: str, sentence: str, run: Callable[[Any], None]) -> Any:
    door = doors.add_parser(name, help=sentence, description=sentence)
    door.set_defaults(run=run)
    door.add_argument("folder", type=Path, help="a finished run, or an exported folder")
    door.add_argument("--threads", type=_positive, metavar="N", help="of the CPU")
    return door


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _export(doors: Doors) -> None:
    door = _door(doors, "export", "Export to ONNX, compared with torch.", _run_export)
    door.add_argument("--onnx", action="store_true", required=True, help="float32, into onnx/")
    door.add_argument("--int8", action="store_true", help="and int8 beside it")
    door.add_argument("--force", action="store_true", help="int8 also where it loses too much")
    door.add_argument("--data", metavar="FILE", help="compare on these texts (without a run)")
    door.add_argument("--text", default="text", metavar="COLUMN", help="of --data (text)")
    door.add_argument("--label", metavar="COLUMN", help="of --data, where they have one")


def _run_export(asked: Any) -> None:
    from nlp_transfer import onnx_export
    from nlp_transfer.validation_texts import of_file, of_run

    if asked.data is None:
        questions = of_run(asked.folder)
    else:
        questions = of_file(asked.folder, asked.data, asked.text, asked.label)
    exported = onnx_export.export_onnx(
        asked.folder, questions, asked.int8, asked.force, asked.threads
    )
    print(onnx_export.table(exported))
    print(f"\nCompared on {len(questions.texts):,} texts of {questions.source}.")
    print(f"Written: {exported.folder}/onnx")
    if exported.refused and asked.force:
        print(f"int8 was written because of --force: {exported.refused}.")
    elif exported.refused:
        raise UserError(
            ExitCode.EXPORT,
            f"int8 was not written: {exported.refused}. "
            "Use float32, or add --force if that is good enough.",
        )
