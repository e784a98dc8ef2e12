"""`nlp-transfer export` and `push`: other formats, and the Hub."""

from __future__ import annotations

from argparse import Namespace

from nlp_transfer.cli.arguments import Command, Parser, add_folder
from nlp_transfer.errors import ExitCode, UserError


def _add_export(parser: Parser) -> None:
    add_folder(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--onnx", action="store_true", help="ONNX in float32, into onnx/")
    which.add_argument("--format", metavar="NAME", help="a format of another package")
    parser.add_argument("--int8", action="store_true", help="with --onnx: int8 as well")
    parser.add_argument(
        "--force", action="store_true", help="write int8 even where it loses too much"
    )
    parser.add_argument("--data", metavar="FILE", help="compare on these texts (without a run)")
    parser.add_argument("--text", default="text", metavar="COLUMN", help="texts of --data (text)")
    parser.add_argument("--text-pair", metavar="COLUMN", help="second texts of --data")
    parser.add_argument("--label", metavar="COLUMN", help="labels of --data, where it has them")
    parser.add_argument("--delimiter", metavar="SIGN", help="between several labels of a cell")


def run_export(arguments: Namespace) -> None:
    """Write another format beside a model, and compare it with torch."""
    from nlp_transfer.inference.classifier import find_model

    find_model(arguments.folder)  # refused before torch is imported
    from nlp_transfer.export.exporters import EXPORTERS, ExportRequest
    from nlp_transfer.export.references import of_file, of_run

    export = EXPORTERS.find("onnx" if arguments.onnx else arguments.format)
    if arguments.data is None:
        questions = of_run(arguments.folder)
    else:
        columns = (arguments.text, arguments.label, arguments.delimiter, arguments.text_pair)
        questions = of_file(arguments.folder, arguments.data, *columns)
    request = ExportRequest(questions, arguments.int8, arguments.force, arguments.threads)
    print(export(arguments.folder, request))


def _add_push(parser: Parser) -> None:
    add_folder(parser)
    parser.add_argument("--repository", required=True, metavar="USER/NAME")
    parser.add_argument(
        "--private", action="store_true", help="create it private; refuse a public repository"
    )
    parser.add_argument("--revision", metavar="BRANCH", help="created if it is missing (main)")
    parser.add_argument("--tag", help="a name for the uploaded commit")
    parser.add_argument("--pull-request", action="store_true", help="to an existing repository")
    parser.add_argument(
        "--examples", action="store_true", help="allow a card that shows rows of the data"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the files, upload nothing")


def run_push(arguments: Namespace) -> None:
    """Upload an exported folder."""
    import logging
    from dataclasses import fields

    from nlp_transfer.config.sections.delivery import HubConfig
    from nlp_transfer.config.validation import impossible_hub
    from nlp_transfer.hub.upload import plan, push
    from nlp_transfer.inference.classifier import find_model

    logging.basicConfig(format="%(message)s")
    logging.getLogger("nlp_transfer").setLevel(logging.INFO)  # why it waits, what it leaves out
    hub = HubConfig(**{field.name: getattr(arguments, field.name) for field in fields(HubConfig)})
    if problems := list(impossible_hub(hub)):
        raise UserError(ExitCode.CONFIG, "\n".join(problems))
    model = find_model(arguments.folder)
    print(plan(model, hub) if arguments.dry_run else push(model, hub).describe())


EXPORT = Command(
    "export",
    "Export a model to ONNX, and compare it with torch.",
    _add_export,
    run_export,
)
PUSH = Command("push", "Upload a model to the Hugging Face Hub.", _add_push, run_push)
