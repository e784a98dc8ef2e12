"""`nlp-transfer repeat` and `learning-curve`: runs that are made from another run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from nlp_transfer.cli.arguments import (
    Command,
    Parser,
    add_out,
    add_overrides,
    check_out,
)
from nlp_transfer.errors import ExitCode, UserError


def _add_repeat(parser: Parser) -> None:
    parser.add_argument("folder", type=Path, help="a finished run")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="for the new run (default: RUN-repeat)"
    )


def run_repeat(arguments: Namespace) -> None:
    """Run the configuration of a finished run again."""
    from nlp_transfer.analysis.finished_runs import open_finished

    open_finished(arguments.folder)  # refused before torch is imported
    from nlp_transfer.analysis.reproduce import repeat
    from nlp_transfer.training.optimization.signals import handle_signals

    with handle_signals():
        repetition = repeat(arguments.folder, arguments.out)
    print(f"\n{repetition}")
    if repetition.changed:
        raise UserError(
            ExitCode.DIFFERENT,
            f"{arguments.folder} does not give the same figures again: see above.",
        )


def _add_learning_curve(parser: Parser) -> None:
    add_overrides(parser)
    add_out(parser, "the curve as JSON, too")


def run_learning_curve(arguments: Namespace) -> None:
    """Train on parts of the labels."""
    check_out(arguments.out, arguments.force)
    from nlp_transfer.analysis.learning_curve import learning_curve
    from nlp_transfer.training.optimization.signals import handle_signals
    from nlp_transfer.utils.files import write_text

    with handle_signals():
        curve = learning_curve(arguments.overrides, arguments.config_dir)
    print(f"\n{curve}")
    if arguments.out is not None:
        write_text(arguments.out, curve.as_json())


REPEAT = Command(
    "repeat",
    "Run a finished run again, and compare the figures.",
    _add_repeat,
    run_repeat,
    "Train the configuration of a finished run again, in a new folder, and compare every figure. "
    "Exit code 11: one differs.",
)
LEARNING_CURVE = Command(
    "learning-curve",
    "Train on 1/8, 1/4, 1/2 and all labels: would more help?",
    _add_learning_curve,
    run_learning_curve,
)
