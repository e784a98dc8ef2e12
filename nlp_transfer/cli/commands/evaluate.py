"""`nlp-transfer evaluate`: measures a model on labelled texts of any origin."""

from __future__ import annotations

from argparse import Namespace

from nlp_transfer.cli.arguments import (
    Command,
    Parser,
    add_backend,
    add_file_options,
    add_folder,
    add_out,
    check_out,
)


def _add_arguments(parser: Parser) -> None:
    add_folder(parser)
    add_backend(parser)
    parser.add_argument(
        "--data", required=True, metavar="DATA", help="a file, a glob, or a dataset's name"
    )
    parser.add_argument("--split", default="test", help="of a dataset (test)")
    parser.add_argument("--text", metavar="COLUMN", help="texts (as in the run, or text)")
    parser.add_argument("--text-pair", metavar="COLUMN", help="the second text of each row")
    parser.add_argument("--label", metavar="COLUMN", help="labels (as in the run, or label)")
    parser.add_argument("--delimiter", help="between the labels of one cell")
    add_file_options(parser)
    add_out(parser, "the figures as in metrics.json, too")


def run_evaluate(arguments: Namespace) -> None:
    """Print the metrics of a model on labelled texts."""
    check_out(arguments.out, arguments.force)
    from nlp_transfer.data.sources import refuse_absent_table

    refuse_absent_table(arguments.data, "--data")
    from nlp_transfer.analysis.evaluate import LabelledTexts, evaluate_model
    from nlp_transfer.config.choices import Quoting
    from nlp_transfer.utils.files import write_json

    columns = (arguments.text, arguments.text_pair, arguments.label, arguments.delimiter)
    how = (arguments.encoding, arguments.separator, Quoting(arguments.quoting))
    texts = LabelledTexts(arguments.data, arguments.split, *columns, *how)
    measurement = evaluate_model(arguments.folder, texts, arguments.backend, arguments.threads)
    print(measurement)
    if arguments.out is not None:
        write_json(arguments.out, measurement.measured)


EVALUATE = Command(
    "evaluate",
    "Measure a model on labelled texts of any origin.",
    _add_arguments,
    run_evaluate,
)
