"""`nlp-transfer suggest`: which unlabelled texts are worth a label."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from nlp_transfer.cli.arguments import (
    Command,
    Parser,
    add_file_options,
    add_folder,
    add_out,
    check_out,
    positive,
)
from nlp_transfer.errors import ExitCode, UserError

BY = ("auto", "uncertain", "typical")
ROWS, LABELS, SEEDS = 50, 256, 5


def _add_arguments(parser: Parser) -> None:
    add_folder(parser)
    parser.add_argument("--file", type=Path, help="a table of texts; with --simulate, of labels")
    parser.add_argument("--text", metavar="COLUMN", help="the texts (as in the run)")
    parser.add_argument("--text-pair", metavar="COLUMN", help="the second text of each row")
    parser.add_argument("--rows", type=positive, default=ROWS, metavar="N", help=f"({ROWS})")
    parser.add_argument("--by", choices=BY, default="auto", help="how rows are chosen (auto)")
    parser.add_argument("--seed", type=int, default=0, help="draws the rows (0)")
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


def run_suggest(arguments: Namespace) -> None:
    """Write rows to label, or print what such rows would have been worth."""
    if arguments.file is not None and not arguments.file.is_file():
        raise UserError(ExitCode.DATA, f"--file {arguments.file}: there is no such file.")
    if arguments.simulate:
        _simulate(arguments)
    else:
        _suggest(arguments)


def _suggest(arguments: Namespace) -> None:
    from nlp_transfer.data.formats.registry import ReadOptions, require_reader
    from nlp_transfer.data.tabular import kind_of

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
    from nlp_transfer.config.loading import read_config
    from nlp_transfer.runs.folder import CONFIG_FILE

    request = SuggestRequest(
        arguments.file,
        out,
        arguments.rows,
        arguments.text,
        arguments.text_pair,
        By(arguments.by),
        arguments.seed,
        arguments.threads,
        ReadOptions(arguments.encoding, arguments.separator, keys="--"),
    )
    suggestions = suggest(arguments.folder, request)
    write_suggestions(suggestions, out)
    dataset = read_config(arguments.folder / CONFIG_FILE).dataset
    print(suggestions.describe(request, dataset.places("train") if dataset.name is None else []))


def _simulate(arguments: Namespace) -> None:
    check_out(arguments.out, arguments.force)
    from nlp_transfer.analysis.suggest.simulation import simulate
    from nlp_transfer.analysis.suggest.suggestions import By
    from nlp_transfer.data.formats.registry import ReadOptions
    from nlp_transfer.utils.files import write_text

    options = ReadOptions(arguments.encoding, arguments.separator, keys="--")
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
