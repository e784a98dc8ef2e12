"""The doors for finished runs and exported folders: `nlp-transfer push`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

from nlp_transfer.config import HubConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.train import fail


def main() -> None:
    """Run the command line; exit codes are those of `ExitCode`."""
    parser = argparse.ArgumentParser(prog="nlp-transfer", description=__doc__)
    doors = parser.add_subparsers(required=True, metavar="COMMAND")
    _push(doors)
    asked = parser.parse_args()
    try:
        asked.run(asked)
    except UserError as error:
        fail(error.code, str(error))
    except KeyboardInterrupt:
        fail(130, "Interrupted.")


def _push(doors: Any) -> None:
    door = doors.add_parser("push", help="upload a finished run or an exported folder to the Hub")
    door.set_defaults(run=_run_push)
    door.add_argument("folder", type=Path, help="a finished run, or an exported folder")
    door.add_argument("--repository", required=True, metavar="USER/NAME")
    door.add_argument("--private", action="store_true", help="never where everybody can read")
    door.add_argument("--revision", metavar="BRANCH", help="made where it is missing (main)")
    door.add_argument("--tag", help="a name for the uploaded commit")
    door.add_argument("--pull-request", action="store_true", help="to a repository that exists")
    door.add_argument("--examples", action="store_true", help="with the rows that the card shows")


def _run_push(asked: Any) -> None:
    from nlp_transfer.hub import exported, push
    from nlp_transfer.limits import impossible_hub

    logging.basicConfig(format="%(message)s")
    logging.getLogger("nlp_transfer").setLevel(logging.INFO)  # why it waits, what it leaves out
    hub = HubConfig(**{field.name: getattr(asked, field.name) for field in fields(HubConfig)})
    if problems := list(impossible_hub(hub)):
        raise UserError(ExitCode.CONFIG, "\n".join(problems))
    print(push(exported(asked.folder), hub).describe())
