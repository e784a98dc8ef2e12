"""`nlp-transfer serve`: answers over HTTP."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from nlp_transfer.cli.arguments import Command, Parser, add_backend, add_folder, positive

if TYPE_CHECKING:
    from nlp_transfer.serving.protection import Access

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

    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help="one key a line")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name beside localhost, this machine's and IP addresses; *: any",
    )
    parser.add_argument(
        "--allowed-origin", action="append", default=[], metavar="URL", help="may ask by CORS"
    )
    parser.add_argument("--root-path", default="", metavar="PATH", help="that a proxy takes off")
    parser.add_argument(
        "--max-requests-per-minute", type=positive, metavar="N", help="of one client (no limit)"
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="also answer /explain, and show the words on the page: an answer for each word",
    )
    parser.add_argument(
        "--log-requests", action="store_true", help="a line of JSON each, without texts"
    )


def model_title(folder: Path) -> str:
    """The name of a model on its pages: its folder's, without the path on this machine."""
    path = folder.resolve()
    return path.parent.name if path.name == "model" else path.name


def _access(arguments: Namespace) -> Access:
    from nlp_transfer.serving.protection import Access, read_keys

    key_file = arguments.api_key_file
    return Access(
        keys=() if key_file is None else read_keys(key_file),
        hosts=tuple(arguments.allowed_host),
        origins=tuple(arguments.allowed_origin),
        requests_per_minute=arguments.max_requests_per_minute,
        log=sys.stderr if arguments.log_requests else None,
    )


def run_serve(arguments: Namespace) -> None:
    """Listen on a port until the process is stopped."""
    from nlp_transfer.inference.classifier import Classifier
    from nlp_transfer.serving.app import make_app
    from nlp_transfer.serving.batcher import Limits
    from nlp_transfer.serving.server import listen, serve

    access = _access(arguments)
    with listen(arguments.host, arguments.port) as listener:
        folder, backend = arguments.folder, arguments.backend

        def load() -> Classifier:
            return Classifier.load(folder, backend, arguments.threads)

        limits = Limits(*(getattr(arguments, f"max_{name}") for name, *_ in LIMITS))
        title, explains = model_title(folder), arguments.explain
        app = make_app(load(), limits, title, access, load, explains)
        url = "http://{}:{}".format(*listener.getsockname()[:2])
        print(f"{folder} by {backend}: {url}", file=sys.stderr, flush=True)
        serve(app, listener, arguments.root_path.rstrip("/"))


SERVE = Command("serve", "Answer over HTTP, with a page to try it.", _add_arguments, run_serve)
