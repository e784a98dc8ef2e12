"""The doors besides training: `nlp-transfer check / export / predict / serve / …`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from nlp_transfer.cli.folder_commands import FOLDER_DOORS
from nlp_transfer.cli.run_commands import RUN_DOORS
from nlp_transfer.errors import ExitCode, UserError, of_the_disk

# What a door may find missing, and what brings it.
PACKAGES = {
    **dict.fromkeys(("fastapi", "uvicorn", "prometheus_client"), "'nlp_transfer[serve]'"),
    **dict.fromkeys(("torch", "transformers", "pyarrow", "tqdm"), "nlp_transfer"),
}


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
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        missing = f"This needs {error.name}, which is not installed."
        _fail(ExitCode.MACHINE, f"{missing} Type pip install {PACKAGES[error.name]}")
    except BrokenPipeError:
        # Whoever read our answers has gone; nothing more can be written, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(130, "The reader of the answers has gone.")
    except OSError as error:  # whatever was answered before is kept
        refusal = of_the_disk(error)
        if refusal is None:
            raise
        _fail(refusal.code, str(refusal))
    except KeyboardInterrupt:
        _fail(130, "Interrupted.")


def _fail(code: int, message: str) -> None:
    # What all processes of a launch find, the first one says.
    if os.environ.get("RANK", "0") == "0":
        print(f"Error: {message}", file=sys.stderr, flush=True)
    sys.exit(int(code))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nlp-transfer", description="What can be done besides training.")
    doors = parser.add_subparsers(required=True, metavar="DOOR")
    for declare in (*RUN_DOORS, *FOLDER_DOORS):
        declare(doors)
    return parser


if __name__ == "__main__":
    main()
