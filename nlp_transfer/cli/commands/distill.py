"""`nlp-transfer distill`: a smaller model that answers as a larger one."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from nlp_transfer.cli.arguments import Command, Parser, add_folder, positive, refuse_absent_folder
from nlp_transfer.errors import ExitCode, UserError

TOLERANCE, EPOCHS, RATE, TEMPERATURE = 0.01, 5.0, 1e-4, 2.0
# What only a student has, with its default.
OF_A_STUDENT = {
    "epochs": EPOCHS,
    "learning_rate": RATE,
    "temperature": TEMPERATURE,
    "tolerance": TOLERANCE,
    "force": False,
}


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number greater than 0")
    return value


def _add_arguments(parser: Parser) -> None:
    add_folder(parser)
    parser.add_argument("--layers", type=positive, metavar="N", help="layers of the student")
    parser.add_argument(
        "--trim-vocabulary",
        action="store_true",
        help="a copy of the checkpoint (of the student, with --layers) without the tokens that "
        "occur neither in the run's texts nor in --unlabeled",
    )
    parser.add_argument("--unlabeled", metavar="FILE", help="more texts, which need no labels")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="the student's run (RUN-N-layers), or without --layers the copy (RUN-trimmed)",
    )
    parser.add_argument(
        "--tolerance",
        type=_above_zero,
        default=TOLERANCE,
        metavar="X",
        help=f"the most that the metric may lose ({TOLERANCE})",
    )
    parser.add_argument("--force", action="store_true", help="accept a student that loses more")
    parser.add_argument("--epochs", type=_above_zero, default=EPOCHS, help=f"({EPOCHS:g})")
    parser.add_argument("--learning-rate", type=_above_zero, default=RATE, help=f"({RATE:g})")
    parser.add_argument(
        "--temperature", type=_above_zero, default=TEMPERATURE, help=f"({TEMPERATURE:g})"
    )
    parser.add_argument("--onnx", action="store_true", help="ONNX of the student, too")
    parser.add_argument("--int8", action="store_true", help="with --onnx: int8 as well")


def run_distill(arguments: Namespace) -> None:
    """Train a student, and compare it with its teacher."""
    if arguments.int8 and not arguments.onnx:
        raise UserError(ExitCode.CONFIG, "--int8 goes with --onnx: add --onnx.")
    refuse_absent_folder(arguments.folder)
    if arguments.layers is None:
        _trim_alone(arguments)
    else:
        _distill(arguments)


def _trim_alone(arguments: Namespace) -> None:
    if not arguments.trim_vocabulary:
        raise UserError(
            ExitCode.CONFIG,
            "Say what is to be smaller: --layers N (a student with fewer layers), "
            "--trim-vocabulary (the same model with fewer tokens), or both.",
        )
    without_effect = [
        f"--{name.replace('_', '-')}"
        for name, default in OF_A_STUDENT.items()
        if getattr(arguments, name) != default
    ]
    if without_effect:
        raise UserError(ExitCode.CONFIG, f"{without_effect[0]} goes with --layers: nothing learns.")
    if arguments.onnx:
        raise UserError(
            ExitCode.CONFIG,
            "--onnx goes with --layers. Export the trimmed checkpoint: nlp-transfer export FOLDER "
            "--onnx --data FILE --text COLUMN.",
        )
    _trim(arguments.folder, arguments, arguments.out)


def _trim(run: Path, arguments: Namespace, out: Path | None) -> None:
    from nlp_transfer.export.trimming import trim

    place = out or run.with_name(f"{run.name}-trimmed")
    print(f"\n{trim(run, arguments.unlabeled, place, arguments.threads)}")


def _distill(arguments: Namespace) -> None:
    from nlp_transfer.analysis.distill import DistillRequest, distill, refuse_loss
    from nlp_transfer.training.optimization.signals import handle_signals

    request = DistillRequest(
        arguments.layers,
        arguments.out,
        arguments.unlabeled,
        arguments.epochs,
        arguments.learning_rate,
        arguments.temperature,
        arguments.threads,
    )
    with handle_signals():
        distilled = distill(arguments.folder, request)
    print(f"\n{distilled}")
    if arguments.onnx:
        _export(distilled.folder, arguments)
    if arguments.trim_vocabulary:
        _trim(distilled.folder, arguments, None)
    if not arguments.force:
        refuse_loss(distilled, arguments.tolerance)


def _export(folder: Path, arguments: Namespace) -> None:
    from nlp_transfer.export.exporters import EXPORTERS, ExportRequest
    from nlp_transfer.export.references import of_run

    request = ExportRequest(of_run(folder), arguments.int8, arguments.force, arguments.threads)
    print(f"\n{EXPORTERS.find('onnx')(folder, request)}")


DISTILL = Command(
    "distill",
    "Train a smaller model that answers as a larger one.",
    _add_arguments,
    run_distill,
    "Train a student with some of the layers of a finished run to give its answers, on the rows of "
    "train and on texts without labels; compare both. The student is a run like any other. The "
    "exit code is not 0 where it loses more than --tolerance. --trim-vocabulary makes a "
    "checkpoint smaller, alone or after that, and keeps the answers to the texts.",
)
