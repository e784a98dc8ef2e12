"""`nlp-transfer estimate`: how long each strategy takes, and what it needs."""

from __future__ import annotations

from argparse import Namespace

from nlp_transfer.cli.arguments import (
    Command,
    Parser,
    add_out,
    add_overrides,
    check_out,
    config_with_data,
)
from nlp_transfer.errors import ExitCode, UserError


def _add_arguments(parser: Parser) -> None:
    add_overrides(parser)
    parser.add_argument(
        "--device",
        metavar="NAME,GB,TFLOPS",
        help="a machine that is not here, on paper, as in 'T4,16,65'",
    )
    parser.add_argument(
        "--strategies", metavar="A,B", help="only these (all of them, that of the task first)"
    )
    add_out(parser, "the estimates as JSON, too")


def run_estimate(arguments: Namespace) -> None:
    """Print minutes, memory and disk of every strategy."""
    check_out(arguments.out, arguments.force)
    config = config_with_data(arguments)
    import json

    from nlp_transfer.analysis.estimate.device import Device
    from nlp_transfer.analysis.estimate.estimate import estimate
    from nlp_transfer.analysis.estimate.table import estimates_text
    from nlp_transfer.utils.files import write_text

    device = None if arguments.device is None else Device.parse(arguments.device)
    only = arguments.strategies.split(",") if arguments.strategies else ()
    estimates = estimate(arguments.overrides, arguments.config_dir, device, only, config)
    print(f"\n{estimates_text(estimates)}")
    if arguments.out is not None:
        write_text(arguments.out, json.dumps(estimates.as_dict(), indent=2) + "\n")
    refused = estimates.refused
    if refused is not None:
        raise UserError(
            ExitCode.MACHINE, f"strategy={refused.strategy} does not fit into memory: see above."
        )


ESTIMATE = Command(
    "estimate",
    "How long does each strategy take, and what does it need?",
    _add_arguments,
    run_estimate,
)
