"""The doors of exported folders: `nlp-transfer export / predict / serve / push`."""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.classifier import BACKENDS, find_model

if TYPE_CHECKING:
    from nlp_transfer.inference.table_prediction import Question

Doors = Any  # argparse keeps the type of `add_subparsers` to itself


def door_of(doors: Doors, name: str, sentence: str, run: Callable[[Any], None]) -> Any:
    door = doors.add_parser(name, help=sentence, description=sentence)
    door.set_defaults(run=run)
    door.add_argument("folder", type=Path, help="a finished run, or an exported folder")
    door.add_argument("--threads", type=positive, metavar="N", help="of the CPU")
    return door


def positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)


def refuse_out(out: Path, force: bool) -> None:
    """Before anything is computed: a file that cannot be written, or would be lost."""
    if not out.parent.is_dir():
        raise UserError(ExitCode.CONFIG, f"--out {out}: there is no folder {out.parent}.")
    if out.exists() and not force:
        raise UserError(ExitCode.CONFIG, f"--out {out} is there already. Add --force, or move it.")


def _export(doors: Doors) -> None:
    door = door_of(doors, "export", "Export to ONNX, compared with torch.", _run_export)
    door.add_argument("--onnx", action="store_true", required=True, help="float32, into onnx/")
    door.add_argument("--int8", action="store_true", help="and int8 beside it")
    door.add_argument("--force", action="store_true", help="int8 also where it loses too much")
    door.add_argument("--data", metavar="FILE", help="compare on these texts (without a run)")
    door.add_argument("--text", default="text", metavar="COLUMN", help="of --data (text)")
    door.add_argument("--text-pair", metavar="COLUMN", help="the second texts, of --data")
    door.add_argument("--label", metavar="COLUMN", help="of --data, where they have one")
    door.add_argument("--delimiter", metavar="SIGN", help="between several labels of a cell")


def _run_export(asked: Any) -> None:
    from nlp_transfer.export import onnx
    from nlp_transfer.export.references import of_file, of_run

    if asked.data is None:
        questions = of_run(asked.folder)
    else:
        given = (asked.text, asked.label, asked.delimiter, asked.text_pair)
        questions = of_file(asked.folder, asked.data, *given)
    exported = onnx.export_onnx(asked.folder, questions, asked.int8, asked.force, asked.threads)
    print(onnx.table(exported))
    print(f"\nCompared on {len(questions.texts):,} texts of {questions.source}.")
    print(f"Written: {exported.folder}/onnx")
    if exported.refused and asked.force:
        print(f"int8 was written because of --force: {exported.refused}.")
    elif exported.refused:
        raise UserError(
            ExitCode.EXPORT,
            f"int8 was not written: {exported.refused}. "
            "Use float32, or add --force if that is good enough.",
        )


def _predict(doors: Doors) -> None:
    door = door_of(doors, "predict", "Answer a table of texts.", _run_predict)
    door.description = (
        "Answer a table of texts. All columns are kept; label and score are added. Where a text "
        "may have several labels it is labels, a list (in CSV and TSV joined by --delimiter); of a "
        "model that gives scores it is score alone."
    )
    choose_backend(door)
    door.add_argument("--file", default="-", help="CSV, TSV, JSON lines or Parquet (-: stdin)")
    door.add_argument("--text", required=True, metavar="COLUMN", help="the texts")
    door.add_argument("--text-pair", metavar="COLUMN", help="the second text of each")
    door.add_argument("--out", default="-", metavar="FILE", help="as --file (-: stdout)")
    door.add_argument("--format", choices=("csv", "tsv", "jsonl"), help="of stdin and stdout")
    door.add_argument("--probabilities", action="store_true", help="of every label, too")
    door.add_argument("--prefix", default="", help="of the new columns' names")
    door.add_argument("--delimiter", default="|", metavar="SIGN", help="between labels (|)")
    door.add_argument("--force", action="store_true", help="replace --out if it is there")


def choose_backend(door: Any) -> None:
    door.add_argument("--backend", choices=BACKENDS, default="torch", help="what runs (torch)")


def _run_predict(asked: Any) -> None:
    from nlp_transfer.inference.classifier import Classifier
    from nlp_transfer.inference.shards import Worker
    from nlp_transfer.inference.table_prediction import (
        identity_of,
        predict_file,
        predict_stream,
        refuse_answers,
    )

    worker = Worker.of_launch()
    question = _question(asked, worker.count)
    classifier = Classifier.load(asked.folder, asked.backend, asked.threads)
    refuse_answers(question, classifier.decoder)
    began = time.monotonic()
    if question.out is None:
        done = predict_stream(classifier, question, sys.stdout.buffer)
    else:
        identity = identity_of(question, asked.folder, asked.backend)
        done = predict_file(classifier, question, identity, worker)
    if worker.rank == 0:
        seconds = time.monotonic() - began
        blank = f", {done.blank:,} of them without a text and an answer" if done.blank else ""
        again = f"; {done.kept:,} windows were there" if done.kept else ""
        where = question.out or "the standard output"
        said = f"{done.rows:,} rows{blank} in {seconds:.1f} s{again}: {where}"
        print(said, file=sys.stderr)


def _question(asked: Any, workers: int) -> Question:
    """What is asked, refused where it cannot be before anything is loaded."""
    from nlp_transfer.data.tabular import kind_of
    from nlp_transfer.inference.table_prediction import Question

    source = None if asked.file == "-" else Path(asked.file)
    out = None if asked.out == "-" else Path(asked.out)
    streamed = [name for name, path in (("--file", source), ("--out", out)) if path is None]
    if workers > 1 and streamed:
        raise UserError(ExitCode.CONFIG, f"Several workers need a file: {streamed[0]}.")
    kind = asked.format if source is None else kind_of(source)
    out_kind = (asked.format or kind) if out is None else kind_of(out)
    if kind is None or (out is None and out_kind == "parquet"):
        where = "Standard input" if kind is None else "Standard output"
        raise UserError(ExitCode.CONFIG, f"{where} needs --format csv, tsv or jsonl.")
    if source is not None and not source.is_file():
        raise UserError(ExitCode.DATA, f"--file {source}: there is no such file.")
    if out is not None:
        refuse_out(out, asked.force)
    if out is not None and source is not None and out.exists() and out.samefile(source):
        raise UserError(ExitCode.CONFIG, "--out and --file are the same file.")
    given = (asked.text, asked.text_pair, asked.probabilities, asked.prefix, asked.delimiter)
    return Question(source, kind, out, out_kind, *given)


def _serve(doors: Doors) -> None:
    door = door_of(doors, "serve", "Answer over HTTP, with a page to try it.", _run_serve)
    choose_backend(door)
    door.add_argument("--host", default="127.0.0.1", help="0.0.0.0: every address (127.0.0.1)")
    door.add_argument("--port", type=int, default=8000, help="0: any that is free (8000)")
    for name, default, what in (
        ("body", 1 << 20, "bytes of one request"),
        ("texts", 64, "texts in one request"),
        ("characters", 100_000, "characters in one request"),
        ("queue", 1024, "texts waiting"),
    ):
        more = f"{what} ({default})"
        door.add_argument(f"--max-{name}", type=positive, default=default, metavar="N", help=more)


def _run_serve(asked: Any) -> None:
    from nlp_transfer.inference.classifier import Classifier
    from nlp_transfer.serving import app as serving

    try:
        listening = socket.create_server((asked.host, asked.port))
    except (OSError, OverflowError) as error:
        raise UserError(
            ExitCode.MACHINE, f"{asked.host}:{asked.port} cannot be listened on: {error}."
        ) from error
    with listening:
        classifier = Classifier.load(asked.folder, asked.backend, asked.threads)
        most = (asked.max_body, asked.max_texts, asked.max_characters, asked.max_queue)
        limits = serving.Limits(*most)
        app = serving.make_app(classifier, limits, title=str(asked.folder))
        where = "{}:{}".format(*listening.getsockname()[:2])
        print(f"{asked.folder} by {asked.backend}: http://{where}", file=sys.stderr, flush=True)
        serving.serve(app, listening)


def _push(doors: Doors) -> None:
    door = door_of(doors, "push", "Upload to the Hub.", _run_push)
    door.add_argument("--repository", required=True, metavar="USER/NAME")
    door.add_argument(
        "--private", action="store_true", help="create it private; refuse a public repository"
    )
    door.add_argument("--revision", metavar="BRANCH", help="made where it is missing (main)")
    door.add_argument("--tag", help="a name for the uploaded commit")
    door.add_argument("--pull-request", action="store_true", help="to a repository that exists")
    door.add_argument(
        "--examples", action="store_true", help="allow a card that shows rows of the data"
    )


def _run_push(asked: Any) -> None:
    import logging
    from dataclasses import fields

    from nlp_transfer.config.schema import HubConfig
    from nlp_transfer.config.validation import impossible_hub
    from nlp_transfer.hub.upload import push

    logging.basicConfig(format="%(message)s")
    logging.getLogger("nlp_transfer").setLevel(logging.INFO)  # why it waits, what it leaves out
    hub = HubConfig(**{field.name: getattr(asked, field.name) for field in fields(HubConfig)})
    if problems := list(impossible_hub(hub)):
        raise UserError(ExitCode.CONFIG, "\n".join(problems))
    print(push(find_model(asked.folder), hub).describe())


FOLDER_DOORS = (_export, _predict, _serve, _push)
