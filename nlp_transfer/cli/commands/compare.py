"""`nlp-transfer compare` and `report`: commands that only read finished runs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from nlp_transfer.cli.arguments import (
    Command,
    Parser,
    add_out,
    check_out,
    positive,
    refuse_absent_folder,
)


def _add_compare(parser: Parser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", help="finished runs, or a sweep's folder")
    parser.add_argument("--metric", help="to compare by (what chose the epoch)")
    add_out(parser, "the comparison as JSON, too")


def run_compare(arguments: Namespace) -> None:
    """Print finished runs side by side."""
    from nlp_transfer.analysis.compare import as_json, compare
    from nlp_transfer.analysis.compare_table import table
    from nlp_transfer.utils.files import write_text

    check_out(arguments.out, arguments.force)
    comparison = compare(arguments.folders, arguments.metric)
    print(table(comparison))
    if arguments.out is not None:
        write_text(arguments.out, as_json(comparison))


def _add_report(parser: Parser) -> None:
    parser.add_argument("folder", type=Path, help="a run, finished or not")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="shade the words of mistakes, list those of each class, and check them against chance",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads")


def run_report(arguments: Namespace) -> None:
    """Write report.html and report.md of a run."""
    from nlp_transfer.reporting.html.report import write_report

    refuse_absent_folder(arguments.folder)
    if arguments.explain:
        from nlp_transfer.analysis.explanations.of_run import explain_run
        from nlp_transfer.utils.text import seconds

        print(f"explained in {seconds(explain_run(arguments.folder, arguments.threads))}")
    print(write_report(arguments.folder))


COMPARE = Command(
    "compare",
    "Compare finished runs, and test which differences are significant.",
    _add_compare,
    run_compare,
)
REPORT = Command("report", "Write report.html of a run again.", _add_report, run_report)
