"""`nlp-transfer suggest` and `review`: which texts are worth a label, and a page to give it."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from nlp_transfer.cli.arguments import (
    Command,
    Parser,
    add_file_options,
    add_folder,
    add_out,
    check_out,
    positive,
    refuse_absent_folder,
)
from nlp_transfer.config.choices import Quoting
from nlp_transfer.errors import ExitCode, UserError

if TYPE_CHECKING:
    from nlp_transfer.data.formats.registry import ReadOptions
    from nlp_transfer.serving.review.session import ReviewSession

PORT = 8001
BY = ("auto", "uncertain", "typical")
ROWS, LABELS, SEEDS = 50, 256, 5


def _add_arguments(parser: Parser) -> None:
    add_folder(parser)
    parser.add_argument("--file", type=Path, help="a table of texts; with --simulate, of labels")
    parser.add_argument("--text", metavar="COLUMN", help="the texts (as in the run)")
    parser.add_argument("--text-pair", metavar="COLUMN", help="the second text of each row")
    parser.add_argument("--rows", type=positive, default=ROWS, metavar="N", help=f"({ROWS})")
    parser.add_argument("--by", choices=BY, default="auto", help="how rows are chosen (auto)")
    parser.add_argument("--seed", type=_seed, default=0, help="draws the rows (0)")
    add_file_options(parser)
    add_out(parser, "the table to fill in (next.csv); with --simulate, the figures as JSON")
    replay = parser.add_argument_group("how much it would help, on rows whose labels are known")
    replay.add_argument("--simulate", action="store_true", help="compare with random rows")
    replay.add_argument(
        "--labels", type=positive, default=LABELS, metavar="N", help=f"at the end ({LABELS})"
    )
    replay.add_argument(
        "--seeds", type=positive, default=SEEDS, metavar="N", help=f"repetitions ({SEEDS})"
    )


def _seed(text: str) -> int:
    """An argparse type: what the random numbers of NumPy and scikit-learn begin with."""
    if not (text.isdecimal() and int(text) < 2**32):
        raise ArgumentTypeError(f"{text!r} must be a whole number from 0 to {2**32 - 1}")
    return int(text)


def run_suggest(arguments: Namespace) -> None:
    """Write rows to label, or print what such rows would have been worth."""
    if arguments.file is not None and not arguments.file.is_file():
        raise UserError(ExitCode.DATA, f"--file {arguments.file}: there is no such file.")
    refuse_absent_folder(arguments.folder)
    if arguments.simulate:
        _simulate(arguments)
    else:
        _suggest(arguments)


def _read_options(arguments: Namespace) -> ReadOptions:
    from nlp_transfer.data.formats.registry import ReadOptions

    quoting = Quoting(arguments.quoting)
    return ReadOptions(arguments.encoding, arguments.separator, quoting=quoting, keys="--")


def _suggest(arguments: Namespace) -> None:
    from nlp_transfer.data.formats.registry import require_reader
    from nlp_transfer.data.formats.windows import kind_of

    if arguments.file is None:
        raise UserError(
            ExitCode.CONFIG,
            "--file FILE is required: the table of texts to choose from. (nlp-transfer suggest "
            "--help)",
        )
    out = arguments.out or Path("next.csv")
    if arguments.file.suffix.lower() != ".zip":
        require_reader(arguments.file.name, ExitCode.CONFIG)
    kind_of(out)
    check_out(out, arguments.force)
    if out.exists() and out.samefile(arguments.file):
        raise UserError(ExitCode.CONFIG, "--out and --file are the same file.")
    from nlp_transfer.analysis.suggest.suggestions import (
        By,
        SuggestRequest,
        suggest,
        write_suggestions,
    )

    request = SuggestRequest(
        arguments.file,
        out,
        arguments.rows,
        arguments.text,
        arguments.text_pair,
        By(arguments.by),
        arguments.seed,
        arguments.threads,
        _read_options(arguments),
    )
    suggestions = suggest(arguments.folder, request)
    write_suggestions(suggestions, out)
    print(suggestions.describe(arguments.folder, request, _train_files(arguments.folder)))


def _simulate(arguments: Namespace) -> None:
    check_out(arguments.out, arguments.force)
    from nlp_transfer.analysis.suggest.simulation import simulate
    from nlp_transfer.analysis.suggest.suggestions import By
    from nlp_transfer.utils.files import write_text

    options = _read_options(arguments)
    simulation = simulate(
        arguments.folder,
        arguments.file,
        arguments.labels,
        arguments.seeds,
        By(arguments.by),
        options,
        arguments.text,
        arguments.threads,
    )
    print(simulation)
    if arguments.out is not None:
        write_text(arguments.out, simulation.as_json())


def _add_review(parser: Parser) -> None:
    parser.add_argument("file", type=Path, help="a table that suggest or suspects wrote")
    parser.add_argument(
        "--run",
        dest="of_run",
        type=Path,
        metavar="FOLDER",
        help="its labels and columns (those of the table)",
    )
    parser.add_argument("--text", metavar="COLUMN", help="the texts (as in the run)")
    parser.add_argument("--text-pair", metavar="COLUMN", help="the second text of each row")
    parser.add_argument(
        "--label", action="append", default=[], metavar="NAME", help="one more label to give"
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"0: any free port ({PORT})")


def run_review(arguments: Namespace) -> None:
    """Serve the page until the process is stopped; the answers are in the table then."""
    from nlp_transfer.serving.review.session import open_session
    from nlp_transfer.serving.review.table import ReviewRequest, read_review

    if not arguments.file.is_file():
        raise UserError(ExitCode.DATA, f"{arguments.file}: there is no such file.")
    request = ReviewRequest(
        arguments.file.resolve(),
        arguments.of_run,
        arguments.text,
        arguments.text_pair,
        tuple(arguments.label),
    )
    with open_session(read_review(request)) as session:
        _serve(session, arguments.port)
    print(session.describe(arguments.file, _train_files(arguments.of_run)))


def _serve(session: ReviewSession, port: int) -> None:
    from nlp_transfer.serving.review.app import make_review_app
    from nlp_transfer.serving.server import listen, serve

    with listen("127.0.0.1", port) as listener:
        state = session.state()
        print(
            f"{state['rows']:,} rows, {state['answered']:,} of them with an answer, "
            f"{len(state['labels']):,} labels: http://127.0.0.1:{listener.getsockname()[1]} "
            "(Ctrl-C ends)",
            file=sys.stderr,
            flush=True,
        )
        serve(make_review_app(session), listener)


def _train_files(run: Path | None) -> list[str]:
    from nlp_transfer.config.loading import read_config
    from nlp_transfer.runs.names import CONFIG_FILE

    if run is None:
        return []
    dataset = read_config(run / CONFIG_FILE).dataset
    return dataset.places("train") if dataset.name is None else []


SUGGEST = Command(
    "suggest",
    "Choose the unlabelled texts that are worth a label.",
    _add_arguments,
    run_suggest,
    "Choose rows of a table of unlabelled texts: those that the model is unsure of and that differ "
    "from each other, without duplicates. Fill in the label column of the file that is written, "
    "and train on it with the rows you have. --simulate shows on rows whose labels are known what "
    "this is worth against rows at random.",
)
REVIEW = Command(
    "review",
    "Label the rows of suggest or suspects on a page, by keys.",
    _add_review,
    run_review,
    "Show the rows of a table that suggest or suspects wrote on a page, one after the other; "
    "number keys give labels. Every answer is on the disk before the next row is shown; the same "
    "command continues where a review ended, however it ended. The server listens on this machine "
    "alone.",
)
