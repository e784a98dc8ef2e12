"""`nlp-transfer predict`: answers sentences, or a table of texts."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_transfer.cli.arguments import (
    Command,
    Parser,
    add_backend,
    add_file_options,
    add_folder,
    check_out,
    refuse_absent_folder,
)
from nlp_transfer.errors import ExitCode, UserError

if TYPE_CHECKING:
    from nlp_transfer.inference.classifier import Classifier
    from nlp_transfer.inference.prediction_request import PredictionRequest
    from nlp_transfer.inference.table_prediction import TableSummary

STREAM = "-"  # standard input or output
# Options that concern a table only, with their defaults.
TABLE_OPTIONS = {
    "file": STREAM,
    "text": None,
    "text_pair": None,
    "out": STREAM,
    "format": None,
    "encoding": None,
    "separator": None,
    "quoting": "double",
    "prefix": "",
    "delimiter": "|",
    "force": False,
    "engine": None,
    "workers": None,
}
# Parquet says these itself.
CLUSTER_HAS_NO = ("format", "encoding", "separator", "quoting", "delimiter")


def _add_arguments(parser: Parser) -> None:
    add_folder(parser)
    parser.add_argument("sentences", nargs="*", metavar="SENTENCE", help="texts to answer at once")
    add_backend(parser)
    parser.add_argument(
        "--probabilities", action="store_true", help="the probability of every label, too"
    )
    table = parser.add_argument_group("a table of texts instead of sentences")
    table.add_argument("--file", default=STREAM, help="a table, compressed or not (-: stdin)")
    table.add_argument(
        "--text", metavar="COLUMN", help="the texts (that of the run, if it is named)"
    )
    table.add_argument("--text-pair", metavar="COLUMN", help="the second text of each row")
    table.add_argument("--out", default=STREAM, metavar="FILE", help="answers (-: stdout)")
    table.add_argument("--format", choices=("csv", "tsv", "jsonl"), help="of stdin and stdout")
    add_file_options(table)
    table.add_argument("--prefix", default="", help="of the new columns' names")
    table.add_argument("--delimiter", default="|", metavar="SIGN", help="between labels (|)")
    table.add_argument("--force", action="store_true", help="replace --out if it exists")
    cluster = parser.add_argument_group("a table that is too large for one machine")
    cluster.add_argument(
        "--engine",
        choices=("ray",),
        help="Parquet files by Ray's workers, here or on the cluster of RAY_ADDRESS; --file (a "
        "glob, a folder) and --out (a folder) may be URLs, such as s3://",
    )
    cluster.add_argument("--workers", type=int, metavar="N", help="of --engine (one a CPU)")


def run_predict(arguments: Namespace) -> None:
    """Answer sentences, or a table."""
    if arguments.sentences:
        _predict_sentences(arguments)
    elif arguments.engine is not None:
        _predict_on_cluster(arguments)
    else:
        _predict_table(arguments)


def _predict_sentences(arguments: Namespace) -> None:
    from nlp_transfer.inference.classifier import Classifier

    mixed = [
        f"--{name.replace('_', '-')}"
        for name, default in TABLE_OPTIONS.items()
        if getattr(arguments, name) != default
    ]
    if mixed:
        raise UserError(
            ExitCode.CONFIG,
            f"{mixed[0]} is for a table, but sentences are given as well: give one of the two.",
        )
    _refuse_files(arguments.sentences)
    classifier = Classifier.load(arguments.folder, arguments.backend, arguments.threads)
    for line in describe_answers(classifier, arguments.sentences, arguments.probabilities):
        print(line)


def _refuse_files(sentences: list[str]) -> None:
    """A file that is named where sentences are expected."""
    from nlp_transfer.data.formats.registry import is_table_name

    for sentence in sentences:
        if is_table_name(sentence) and Path(sentence).is_file():
            raise UserError(
                ExitCode.CONFIG,
                f"{sentence} is a file, not a sentence. For its rows, type "
                f"nlp-transfer predict RUN --file {sentence} --text COLUMN",
            )


def describe_answers(
    classifier: Classifier, sentences: list[str], probabilities: bool = False
) -> list[str]:
    """One line for each sentence: its answer, its probability or score, and the sentence."""
    from nlp_transfer.utils.text import aligned

    names = classifier.decoder.problem.columns
    rows: list[list[str]] = []
    for sentence, prediction in zip(sentences, classifier.predict(sentences), strict=True):
        if prediction is None:
            rows.append(["(no text)"] + [""] * len(names[1:]))
        else:
            rows.append([_cell(getattr(prediction, name)) for name in names])
        if probabilities and len(classifier.labels) > 1:
            every = {} if prediction is None else prediction.probabilities
            rows[-1].append(", ".join(f"{label} {share:.3f}" for label, share in every.items()))
        rows[-1].append(sentence)
    return list(aligned(rows, "<"))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return value if isinstance(value, str) else ", ".join(value) or "(no label)"


def _predict_table(arguments: Namespace) -> None:
    from nlp_transfer.inference.classifier import Classifier
    from nlp_transfer.inference.download import local_folder
    from nlp_transfer.inference.prediction_request import check_request, identity_of
    from nlp_transfer.inference.shards import Worker
    from nlp_transfer.inference.table_prediction import check_source, predict_file, predict_stream

    if arguments.workers is not None:
        raise UserError(ExitCode.CONFIG, "--workers goes with --engine ray.")
    worker = Worker.of_launch()
    request = _request(arguments, worker.count)
    folder = local_folder(arguments.folder, arguments.backend)
    check_source(request)
    classifier = Classifier.load(folder, arguments.backend, arguments.threads)
    check_request(request, classifier.decoder)
    start = time.monotonic()
    if request.out is None:
        summary = predict_stream(classifier, request, sys.stdout.buffer)
    else:
        identify = partial(identity_of, request, folder, arguments.backend)
        summary = predict_file(classifier, request, identify, worker)
    if worker.rank == 0:
        _print_summary(summary, start, str(request.out or "the standard output"))


def _print_summary(summary: TableSummary, start: float, where: str) -> None:
    seconds = time.monotonic() - start
    blank = f", {summary.blank:,} of them without a text and an answer" if summary.blank else ""
    reused = f"; {summary.reused:,} windows were answered before" if summary.reused else ""
    print(f"{summary.rows:,} rows{blank} in {seconds:.1f} s{reused}: {where}", file=sys.stderr)


def _predict_on_cluster(arguments: Namespace) -> None:
    from nlp_transfer.inference.cluster import ClusterJob, predict_on_cluster
    from nlp_transfer.inference.download import local_folder
    from nlp_transfer.inference.prediction_request import PredictionRequest

    streams = [name for name in ("file", "out") if getattr(arguments, name) == STREAM]
    missing = [*streams, *(["text"] if arguments.text is None else [])]
    if missing:
        raise UserError(ExitCode.CONFIG, f"--engine ray needs --{missing[0]}.")
    useless = [n for n in CLUSTER_HAS_NO if getattr(arguments, n) != TABLE_OPTIONS[n]]
    if useless:
        raise UserError(ExitCode.CONFIG, f"--engine ray reads Parquet: leave out --{useless[0]}.")
    if arguments.workers is not None and arguments.workers < 1:
        raise UserError(ExitCode.CONFIG, f"--workers {arguments.workers}: expected 1 or more.")
    request = PredictionRequest(
        None,
        "parquet",
        None,
        "parquet",
        arguments.text,
        arguments.text_pair,
        arguments.probabilities,
        arguments.prefix,
        called=arguments.file,
    )
    job = ClusterJob(
        arguments.file,
        arguments.out,
        request,
        arguments.backend,
        arguments.threads or 1,
        arguments.workers,
        arguments.force,
    )
    start = time.monotonic()
    _print_summary(
        predict_on_cluster(local_folder(arguments.folder, job.backend), job), start, job.out
    )


def _text_columns(arguments: Namespace) -> tuple[str, str | None]:
    """Those that are named, else those of the run, which are said in one line."""
    if arguments.text is not None:
        return arguments.text, arguments.text_pair
    from nlp_transfer.config.saved import text_columns
    from nlp_transfer.inference.download import NAME
    from nlp_transfer.runs.names import CONFIG_FILE

    folder = arguments.folder
    if not NAME.fullmatch(str(folder)):
        refuse_absent_folder(folder)
    if arguments.file == STREAM or not (folder / CONFIG_FILE).is_file():
        raise UserError(
            ExitCode.CONFIG,
            "--text COLUMN is required for a table; or give sentences: "
            'nlp-transfer predict RUN "a text". (nlp-transfer predict --help)',
        )
    text, text_pair = text_columns(folder / CONFIG_FILE)
    names = [name for name in (text, text_pair) if name is not None]
    print(f"texts: {' and '.join(map(repr, names))}, as in the run (--text)", file=sys.stderr)
    return text, text_pair


def _request(arguments: Namespace, workers: int) -> PredictionRequest:
    """The request, checked before anything is loaded."""
    from nlp_transfer.config.choices import Quoting
    from nlp_transfer.data.formats.registry import ReadOptions, is_table_name, require_reader
    from nlp_transfer.data.formats.windows import STREAMED, kind_of
    from nlp_transfer.inference.prediction_request import PredictionRequest

    source = None if arguments.file == STREAM else Path(arguments.file)
    if source is not None and not source.is_file():
        raise UserError(ExitCode.DATA, f"--file {source}: there is no such file.")
    text, text_pair = _text_columns(arguments)
    out = None if arguments.out == STREAM else Path(arguments.out)
    streams = [name for name, path in (("--file", source), ("--out", out)) if path is None]
    if workers > 1 and streams:
        raise UserError(ExitCode.CONFIG, f"Several workers need a file: {streams[0]}.")
    kind = arguments.format
    if source is not None:
        zipped = source.suffix.lower() == ".zip" and is_table_name(source.name)
        kind = "zip" if zipped else require_reader(source.name, ExitCode.CONFIG).name
    out_kind = (arguments.format or kind) if out is None else kind_of(out)
    if kind is None or (out is None and out_kind not in STREAMED):
        where = "Standard input" if kind is None else "Standard output"
        raise UserError(ExitCode.CONFIG, f"{where} needs --format csv, tsv or jsonl.")
    check_out(out, arguments.force)
    if out is not None and source is not None and out.exists() and out.samefile(source):
        raise UserError(ExitCode.CONFIG, "--out and --file are the same file.")
    return PredictionRequest(
        source,
        kind,
        out,
        out_kind,
        text,
        text_pair,
        arguments.probabilities,
        arguments.prefix,
        arguments.delimiter,
        ReadOptions(
            arguments.encoding,
            arguments.separator,
            quoting=Quoting(arguments.quoting),
            columns=tuple(c for c in (text, text_pair) if c),
            keys="--",
        ),
    )


PREDICT = Command(
    "predict",
    "Answer sentences, or a table of texts.",
    _add_arguments,
    run_predict,
    'Answer sentences: nlp-transfer predict RUN "My invoice is wrong". Or answer a table of '
    "texts: all its columns are kept, and label and score are added. A model that gives several "
    "labels adds labels, a list (in CSV and TSV joined by --delimiter); a model that gives scores "
    "adds score.",
)
