"""Answers Parquet files on a cluster: Ray's actors hold the model, and write a part for each block.

A block is a row group of a file. Parts that are there are not written again, so that a job that was
stopped goes on with the blocks that are missing. Files may lie wherever fsspec reaches.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from nlp_transfer.data.formats.registry import WINDOW
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.classifier import Classifier, find_model
from nlp_transfer.inference.download import FILES
from nlp_transfer.inference.engines import ENGINES
from nlp_transfer.inference.prediction_request import (
    PredictionRequest,
    check_columns,
    check_request,
    identity_of,
)
from nlp_transfer.inference.table_prediction import TableSummary, answer_window, count_blank
from nlp_transfer.problems.decoder import Decoder

ABOUT = "_about.json"  # readers of Parquet folders pass over names that begin so
PARTIAL = "_partial-"
AHEAD = 2  # blocks that a worker has been given
RETRIES = 3  # of a worker that died, and of its block


@dataclass(frozen=True)
class ClusterJob:
    """Which files are to be answered, where to, and by how many workers."""

    source: str  # a file, a glob or a folder; a path or a URL
    out: str  # a folder
    request: PredictionRequest  # columns and answers; it names no files
    backend: str
    threads: int = 1  # of the CPU, for each worker
    workers: int | None = None  # None: as many as the cluster has CPUs for
    force: bool = False  # replace what another command has written


@dataclass(frozen=True)
class Block:
    """A row group of a file, and the part that its answers go to."""

    file: str
    group: int
    rows: int
    part: str


def predict_on_cluster(folder: Path, job: ClusterJob) -> TableSummary:
    """Answer all blocks whose parts are missing.

    Args:
        folder: of a run, or its exported model, on this machine; workers are sent what they need.

    Raises:
        UserError: for what is wrong with the files or the columns; a worker that cannot go on.
    """
    model = find_model(folder)
    decoder = Decoder.from_model_config(json.loads((model / "config.json").read_text("utf-8")))
    check_request(job.request, decoder)
    files = _files(job.source)
    blocks = _blocks(files, job, decoder)
    done = _open_folder(job, identity_of(job.request, folder, job.backend), files)
    missing = [block for block in blocks if PurePosixPath(block.part).name not in done]
    blank = 0
    with tqdm(
        total=sum(block.rows for block in blocks),
        initial=sum(block.rows for block in blocks) - sum(block.rows for block in missing),
        unit=" rows",
        disable=not sys.stderr.isatty(),
        file=sys.stderr,
    ) as bar:
        for block, count in _answered(model, job, missing):
            blank += count
            bar.update(block.rows)
    return TableSummary(sum(block.rows for block in blocks), blank, len(blocks) - len(missing))


def _files(source: str) -> list[str]:
    """URLs or paths of the Parquet files, in the order of their names."""
    system, path = fsspec.core.url_to_fs(source)
    if system.isdir(path):
        path = f"{path.rstrip('/')}/*.parquet"
    names = [path] if system.isfile(path) else sorted(map(str, system.glob(path)))
    if not names:
        raise UserError(ExitCode.DATA, f"--file {source}: there is no such file.")
    other = [name for name in names if not name.endswith(".parquet")]
    if other:
        raise UserError(
            ExitCode.CONFIG,
            f"--engine ray reads Parquet, whose blocks can be read apart; {other[0]} is not named "
            ".parquet. Convert it, or leave out --engine.",
        )
    return [str(system.unstrip_protocol(name)) for name in names]


def _blocks(files: Sequence[str], job: ClusterJob, decoder: Decoder) -> list[Block]:
    """The row groups that hold something; the columns of every file are checked."""
    blocks = []
    for number, file in enumerate(files):
        try:
            with fsspec.open(file) as stream:
                parquet = pq.ParquetFile(stream)
                metadata, schema = parquet.metadata, parquet.schema_arrow
        except pa.ArrowInvalid as error:
            raise UserError(ExitCode.DATA, f"{file} cannot be read as Parquet: {error}") from error
        check_columns(schema.empty_table(), replace(job.request, called=file), decoder)
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            part = f"{job.out.rstrip('/')}/part-{number:05}-{group:05}.parquet"
            blocks += [Block(file, group, rows, part)] if rows else []
    if not blocks:
        raise UserError(ExitCode.DATA, f"{job.source} has no rows.")
    return blocks


def _open_folder(job: ClusterJob, identity: dict[str, Any], files: Sequence[str]) -> set[str]:
    """The names of the parts that are there; the folder says what they answer.

    Raises:
        UserError: if it holds something else.
    """
    sizes = [fsspec.core.url_to_fs(file)[0].size(file) for file in files]
    about = {**identity, "source": [list(pair) for pair in zip(files, sizes, strict=True)]}
    system, path = fsspec.core.url_to_fs(job.out)
    system.makedirs(path, exist_ok=True)
    names = {PurePosixPath(str(name)).name for name in system.ls(path, detail=False)}
    if names and ABOUT not in names:
        raise UserError(
            ExitCode.CONFIG,
            f"--out {job.out} was not written by predict --engine ray. Name an empty folder.",
        )
    there = json.loads(system.cat_file(f"{path}/{ABOUT}")) if names else about
    different = sorted(name for name in about if there.get(name) != about[name])
    if different and not job.force:
        raise UserError(
            ExitCode.CONFIG,
            f"--out {job.out} holds answers of another command ({', '.join(different)} differ). "
            "Add --force to replace them, or name another folder.",
        )
    partial = {name for name in names if name.startswith(PARTIAL)}
    for name in names if different else partial:
        system.rm_file(f"{path}/{name}")
    system.pipe_file(f"{path}/{ABOUT}", json.dumps(about).encode())
    return set() if different else names - partial


def _answered(model: Path, job: ClusterJob, blocks: Sequence[Block]) -> Iterator[tuple[Block, int]]:
    """Each block when its part is there, and how many of its rows have no text."""
    if not blocks:
        return
    with _cluster() as ray:
        cpus = int(ray.cluster_resources().get("CPU", 1))
        count = job.workers or max(1, cpus // job.threads)
        actor = ray.remote(_Answerer).options(
            num_cpus=min(job.threads, cpus), max_restarts=RETRIES, max_task_retries=RETRIES
        )
        # With each block: of constructors' arguments that it could lose, Ray warns on the terminal.
        files = [ray.put(_contents(model, job.backend))]
        workers = [actor.remote(job) for _ in range(min(count, len(blocks)))]
        waiting = iter(blocks)
        pending = {}
        for worker in [*workers] * AHEAD:
            for block in _next(waiting):
                pending[worker.answer.remote(files, block)] = worker, block
        while pending:
            [ready], _ = ray.wait(list(pending))
            worker, block = pending.pop(ready)
            yield block, _result(ray, ready)
            for following in _next(waiting):
                pending[worker.answer.remote(files, following)] = worker, following


def _next(blocks: Iterator[Block]) -> list[Block]:
    block = next(blocks, None)
    return [] if block is None else [block]


def _result(ray: Any, ready: Any) -> int:
    try:
        return int(ray.get(ready))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        reason = f"A worker failed: {type(error.cause).__name__}: {error.cause}"
    except ray.exceptions.RayActorError as error:
        reason = f"A worker died {RETRIES + 1} times: {error}"
    raise UserError(
        ExitCode.MACHINE,
        f"{reason[:500]} The same command continues with the blocks that are left.",
    ) from None


@contextmanager
def _cluster() -> Iterator[Any]:
    """The cluster of RAY_ADDRESS, or one on this machine while this lasts."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError as error:
        raise UserError(
            ExitCode.MACHINE, "--engine ray needs Ray: pip install 'nlp_transfer[ray]'."
        ) from error
    running = ray.is_initialized()
    if not running:
        local = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
        ray.init(log_to_driver=False, logging_level="ERROR", **local)
    try:
        yield ray
    finally:
        if not running:
            ray.shutdown()


def _contents(model: Path, backend: str) -> dict[str, bytes]:
    """What the engine reads of an exported model, by name."""
    patterns = (*FILES, *ENGINES.find(backend).files)
    files = {file for pattern in patterns for file in model.glob(pattern) if file.is_file()}
    return {str(file.relative_to(model)): file.read_bytes() for file in sorted(files)}


class _Answerer:
    """A worker: it opens the model once, and answers blocks."""

    def __init__(self, job: ClusterJob) -> None:
        self.job = job
        self.classifier: Classifier | None = None

    def _open(self, files: dict[str, bytes]) -> Classifier:
        with tempfile.TemporaryDirectory(prefix="nlp_transfer-") as name:
            for path, content in files.items():
                target = Path(name, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            return Classifier.load(name, self.job.backend, self.job.threads)

    def answer(self, stored: list[Any], block: Block) -> int:
        """Write the part of a block, which is there when it is whole; rows without a text.

        Args:
            stored: where Ray has the files of the model.
        """
        import ray

        if self.classifier is None:
            self.classifier = self._open(*ray.get(stored))
        system, part = fsspec.core.url_to_fs(block.part)
        place = PurePosixPath(part)
        partial = str(place.with_name(f"{PARTIAL}{uuid.uuid4().hex}"))
        request = replace(self.job.request, called=block.file)
        writer, blank = None, 0
        with fsspec.open(block.file) as stream, system.open(partial, "wb") as out:
            groups = pq.ParquetFile(stream).iter_batches(WINDOW, row_groups=[block.group])
            for batch in groups:
                window = pa.Table.from_batches([batch])
                table = answer_window(self.classifier, window, request)
                assert isinstance(table, pa.Table), "a table has a table of answers"
                writer = writer or pq.ParquetWriter(out, table.schema)
                writer.write_table(table)
                blank += count_blank(window, request)
            if writer is not None:
                writer.close()
        system.mv(partial, part)
        return blank
