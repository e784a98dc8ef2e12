"""`nlp-transfer explain`: the words an answer rests on, and the rows of train that are like it."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_transfer.cli.arguments import (
    Command,
    Parser,
    add_backend,
    add_file_options,
    add_folder,
    add_out,
    check_out,
    positive,
)
from nlp_transfer.errors import ExitCode, UserError

if TYPE_CHECKING:
    from nlp_transfer.analysis.explanations.nearest_rows import Neighbour
    from nlp_transfer.inference.explanation import Explanation

ROWS = 20  # of a file
SHOWN = 100  # characters of a neighbour's text


def _add_arguments(parser: Parser) -> None:
    from nlp_transfer.inference.explanation import METHODS

    add_folder(parser)
    parser.add_argument("sentences", nargs="*", metavar="SENTENCE", help="texts to explain")
    add_backend(parser)
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=METHODS[0],
        help="leave words out, or integrate gradients, by torch and captum (occlusion)",
    )
    parser.add_argument(
        "--labels", type=_labels, metavar="A,B", help="labels to explain (those that are given)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--neighbours", type=positive, metavar="N", help="the N nearest rows of train, too"
    )
    table = parser.add_argument_group("a table of texts instead of sentences")
    table.add_argument("--file", type=Path, help="a table, compressed or not")
    table.add_argument("--text", metavar="COLUMN", help="the texts (required for a table)")
    table.add_argument("--text-pair", metavar="COLUMN", help="the second text of each row")
    table.add_argument("--rows", type=positive, metavar="N", help=f"the first rows ({ROWS})")
    add_file_options(table)
    check = parser.add_argument_group("are the explanations of this run better than chance?")
    check.add_argument(
        "--check",
        action="store_true",
        help="deletion and insertion curves on rows of validation (--rows: 50)",
    )
    add_out(check, "a page with the curves (explain.html)", Path("explain.html"))


def run_explain(arguments: Namespace) -> None:
    """Explain sentences, or the rows of a table; or check the explanations of a run."""
    from nlp_transfer.inference.classifier import Classifier

    _refuse(arguments)
    classifier = Classifier.load(arguments.folder, arguments.backend, arguments.threads)
    if arguments.check:
        _check(classifier, arguments)
        return
    texts, pairs = arguments.sentences, None
    if arguments.file is not None:
        texts, pairs = _rows_of(arguments)
    explanations = classifier.explain(texts, pairs, arguments.labels, arguments.method)
    neighbours = _neighbours(arguments, texts, pairs)
    if arguments.json:
        print(json.dumps(_entries(explanations, neighbours), indent=2, ensure_ascii=False))
    else:
        _print(explanations, neighbours)


def _refuse(arguments: Namespace) -> None:
    sources = [bool(arguments.sentences), arguments.file is not None, arguments.check]
    if sum(sources) != 1:
        raise UserError(
            ExitCode.CONFIG,
            "Expected one of sentences, --file FILE or --check; found "
            f"{'none' if not any(sources) else 'more than one'} of them.",
        )
    if arguments.file is not None and arguments.text is None:
        raise UserError(ExitCode.CONFIG, "--file needs --text COLUMN, the column with the texts.")
    if arguments.check:
        check_out(arguments.out, arguments.force)


def _check(classifier: Any, arguments: Namespace) -> None:
    from nlp_transfer.analysis.explanations.check import ROWS as CHECKED
    from nlp_transfer.analysis.explanations.check import check_run
    from nlp_transfer.utils.files import write_text

    rows = arguments.rows or CHECKED
    check = check_run(classifier, arguments.folder, arguments.method, rows)
    write_text(arguments.out, check.page())
    print(f"{check}\nWritten: {arguments.out}")


def _rows_of(arguments: Namespace) -> tuple[list[Any], list[Any] | None]:
    """The first rows of the table."""
    from nlp_transfer.data.formats.read import open_table
    from nlp_transfer.data.formats.registry import ReadOptions
    from nlp_transfer.data.formats.windows import column, columns_of

    if not arguments.file.is_file():
        raise UserError(ExitCode.DATA, f"--file {arguments.file}: there is no such file.")
    options = ReadOptions(arguments.encoding, arguments.separator, keys="--")
    names, rows = [arguments.text, arguments.text_pair], arguments.rows or ROWS
    columns: list[list[Any]] = [[], []]
    with open_table(arguments.file, options) as (windows, _):
        for window in windows:
            for name, values in zip(names, columns, strict=True):
                if name is not None and name not in columns_of(window):
                    raise UserError(
                        ExitCode.DATA,
                        f"{arguments.file} has no column {name!r}; there are "
                        f"{', '.join(columns_of(window))}.",
                    )
                values += column(window, name) if name is not None else []
            if len(columns[0]) >= rows:
                break
    texts, pairs = (values[:rows] for values in columns)
    return texts, pairs if arguments.text_pair is not None else None


def _neighbours(
    arguments: Namespace, texts: list[Any], pairs: list[Any] | None
) -> list[list[Neighbour]] | None:
    if arguments.neighbours is None:
        return None
    from nlp_transfer.analysis.explanations.nearest_rows import nearest_rows

    filled = [text or "" for text in texts]
    seconds = None if pairs is None else [text or "" for text in pairs]
    return nearest_rows(arguments.folder, filled, seconds, arguments.neighbours)


def _entries(
    explanations: list[Explanation | None], neighbours: list[list[Neighbour]] | None
) -> list[Any]:
    from dataclasses import asdict

    entries = [None if each is None else each.as_dict() for each in explanations]
    for place, entry in enumerate(entries):
        if entry is not None and neighbours is not None:
            entry["neighbours"] = [asdict(neighbour) for neighbour in neighbours[place]]
    return entries


def _print(
    explanations: list[Explanation | None], neighbours: list[list[Neighbour]] | None
) -> None:
    from nlp_transfer.analysis.explanations.text import LEGEND, colours, explanation_lines
    from nlp_transfer.utils.text import wrapped

    colour = colours()
    for place, explanation in enumerate(explanations):
        if explanation is None:
            print("(no text)")
            continue
        for line in explanation_lines(explanation, colour):
            print(line)
        for each in neighbours[place] if neighbours is not None else ():
            text = each.text if each.text_pair is None else f"{each.text} / {each.text_pair}"
            short = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
            for line in wrapped(
                f"    like {each.label} {each.similarity:.2f} ({each.place}): {short}"
            ):
                print(line)
        print()
    if not colour:
        print(LEGEND)


def _labels(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ArgumentTypeError(f"{text!r} must be labels with commas between them")
    return names


EXPLAIN = Command("explain", "Show the words that an answer rests on.", _add_arguments, run_explain)
