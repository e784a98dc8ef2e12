"""`nlp-transfer serve`: answers over HTTP."""

from __future__ import annotations

import socket
import sys
from argparse import Namespace

from nlp_transfer.cli.arguments import Command, Parser, add_backend, add_folder, positive
from nlp_transfer.errors import ExitCode, UserError

LIMITS = (
    ("body", 1 << 20, "bytes of one request"),
    ("texts", 64, "texts in one request"),
    ("characters", 100_000, "characters in one request"),
    ("queue", 1024, "texts waiting"),
)


def _add_arguments(parser: Parser) -> None:
    add_folder(parser)
    add_backend(parser)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: every address (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0: any free port (8000)")
    for name, default, what in LIMITS:
        help_text = f"{what} ({default})"
        parser.add_argument(
            f"--max-{name}", type=positive, default=default, metavar="N", help=help_text
        )


def run_serve(arguments: Namespace) -> None:
    """Listen on a port until the process is stopped."""
    from nlp_transfer.inference.classifier import Classifier
    from nlp_transfer.serving import app as serving

    address = (arguments.host, arguments.port)
    try:
        listener = socket.create_server(address)
    except (OSError, OverflowError) as error:
        raise UserError(
            ExitCode.MACHINE, "{}:{} cannot be listened on: {}.".format(*address, error)
        ) from error
    with listener:
        folder, backend = arguments.folder, arguments.backend
        classifier = Classifier.load(folder, backend, arguments.threads)
        limits = serving.Limits(*(getattr(arguments, f"max_{name}") for name, *_ in LIMITS))
        app = serving.make_app(classifier, limits, title=str(folder))
        url = "http://{}:{}".format(*listener.getsockname()[:2])
        print(f"{folder} by {backend}: {url}", file=sys.stderr, flush=True)
        serving.serve(app, listener)


SERVE = Command("serve", "Answer over HTTP, with a page to try it.", _add_arguments, run_serve)
