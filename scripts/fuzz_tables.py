"""Reads mutated table files: each is read or refused with one error, in bounded time and memory.

    python scripts/fuzz_tables.py --minutes 60 --kept found

Hypothesis draws a real small file of one of the formats and changes its bytes: flips, cuts,
repeats, insertions of signs that formats care about, pieces of another file. Each is read as
training and as `predict` read it, in a process that is replaced where it crashes or does not end.
A file that is neither read nor refused is kept, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import json
import lzma
import multiprocessing
import resource
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.data.formats.read import open_table
from nlp_transfer.data.formats.registry import ReadOptions
from nlp_transfer.data.formats.windows import column
from nlp_transfer.errors import UserError
from nlp_transfer.quality.spelling import written_texts

TEXTS = [f"{word} {thing}, é" for word in ("fine", "dull") for thing in ("film", '"book"', "trip")]
LABELS = ["good"] * 3 + ["bad"] * 3
RECORDS = [{"text": text, "label": y} for text, y in zip(TEXTS, LABELS, strict=True)]
TABLE = pa.table({"text": TEXTS, "label": LABELS, "more": [[i, None] for i in range(6)]})
SIGNS = [b'"', b",", b";", b"\t", b"\n", b"\r", b"\0", b"\\", b"[", b"]", b"{", b"}", b":", b"null"]
SIGNS += [b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3", b"\\ud800", b"NaN", b"1e999", b"-1", b"\x80"]
SIGNS += [b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"9" * 5000, b"['a', 'b']", b"[0, 1]", b"0 1 1"]
SECONDS = 20  # of CPU that a file of a few kilobytes may take
WAIT = 600.0  # seconds without any answer of the process, on however busy a machine
MEGABYTES = 500  # that it may add to the memory of the process
ROUND = 200  # files a process reads
ORC_ROUND = 20  # one round of so many reads ORC too, whose process takes 0.2 s to start


def written(write: Callable[[Any], Any]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


@cache
def real_files() -> dict[str, bytes]:
    """One small file of each format, as programs write it."""
    rows = "".join(f'"{r["text"].replace(chr(34), chr(34) * 2)}",{r["label"]}\n' for r in RECORDS)
    csv = f"text,label\n{rows}".encode()
    lines = "".join(json.dumps(row) + "\n" for row in RECORDS).encode()
    by_column = json.dumps({"text": dict(enumerate(TEXTS)), "label": dict(enumerate(LABELS))})
    split = json.dumps({"columns": ["text", "label"], "data": list(zip(TEXTS, LABELS))})  # noqa: B905
    files = {
        "a.csv": csv,
        "b.tsv": csv.replace(b'",', b'"\t').replace(b"t,", b"t\t"),
        "c.csv": csv.decode().encode("utf-16"),
        "d.csv.gz": gzip.compress(csv),
        "e.csv.bz2": bz2.compress(csv),
        "f.csv.xz": lzma.compress(csv),
        "g.zip": zipped(csv),
        "h.jsonl": lines,
        "i.json": json.dumps(RECORDS, indent=1).encode(),
        "j.json": by_column.encode(),
        "k.json": split.encode(),
        "l.jsonl": b'{"text": "a b", "label": [0, 1]}\n{"text": "c", "label": [1, 0]}\n' * 3,
        "m.parquet": written(lambda s: pq.write_table(TABLE, s)),
        "n.parquet": written(lambda s: pq.write_table(TABLE, s, compression="zstd")),
        "o.parquet": written(lambda s: pq.write_table(TABLE, s, compression=None)),
        "p.arrow": written(lambda s: feather.write_feather(TABLE, s)),
        "q.orc": written(lambda s: orc.write_table(TABLE, s)),
        "r.csv": b"text,label\n"
        + b"".join(b"a%d b,\"['x', 'y%d']\"\n" % (i, i % 2) for i in range(6)),
        "s.csv": b'text;label\na b;"0.5"\nc d;"1.25"\ne f;2\n',
    }
    try:
        files["t.xlsx"] = workbook()
    except ImportError:
        print("without openpyxl, no workbooks", file=sys.stderr)
    return files


def zipped(content: bytes) -> bytes:
    def write(stream: Any) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("rows.csv", content)

    return written(write)


def workbook() -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    for row in (("text", "label"), *zip(TEXTS, LABELS, strict=True)):
        book.active.append(row)
    return written(book.save)


@st.composite
def mutated_files(draw: st.DrawFn, names: tuple[str, ...] = ()) -> tuple[str, bytes]:
    """The name of a real file, and its content with some changes."""
    files = real_files()
    name = draw(st.sampled_from(sorted(names or files)))
    content = bytearray(files[name])
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        size = draw(st.integers(0, 40))
        match draw(st.sampled_from(("flip", "sign", "cut", "repeat", "bytes", "end", "other"))):
            case "flip" if content:
                content[min(place, len(content) - 1)] ^= 1 << draw(st.integers(0, 7))
            case "sign":
                content[place:place] = draw(st.sampled_from(SIGNS))
            case "cut":
                del content[place : place + size]
            case "repeat":
                content[place:place] = content[place : place + size] * draw(st.integers(1, 50))
            case "bytes":
                content[place : place + size] = draw(st.binary(max_size=8))
            case "end":
                del content[-size:]
            case "other":
                other = files[draw(st.sampled_from(sorted(files)))]
                begin = draw(st.integers(0, len(other)))
                content[place : place + size] = other[begin : begin + size]
    return name, bytes(content)


def read(name: str, content: bytes, folder: Path) -> str:
    """`read`, or the class of the user error; anything else is raised."""
    file = folder / name
    file.write_bytes(content)
    outcome = "read"
    try:
        corpus = load_corpus(DatasetConfig(train=str(file), validation=str(file)), 0)
        list(written_texts(corpus))
    except UserError as error:
        assert str(error).strip(), "an error without a message"
        outcome = "refused"
    try:
        with open_table(file, ReadOptions(keys="--")) as (windows, _):
            for window in windows:
                column(window, "text")
    except (UserError, KeyError):  # predict asks for the column before it reads rows
        pass
    return outcome


def peak() -> float:
    """The most memory that this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu(whose: int = resource.RUSAGE_SELF) -> float:
    """Seconds of CPU that this process has used, or those that it has started."""
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def names_in(number: int) -> tuple[str, ...]:
    """The files of a round."""
    everything = number % ORC_ROUND == 0
    return tuple(name for name in real_files() if everything or not name.endswith(".orc"))


def read_round(number: int, folder: Path, results: Any) -> None:
    """In a process of its own: read some files; the one at work is `current` in the folder."""

    @seed(number)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated_files(names_in(number)))
    def run(file: tuple[str, bytes]) -> None:
        name, content = file
        (folder / f"current.{name}").write_bytes(content)
        results.put(("begin", name, time.monotonic(), ""))
        before, fault = peak(), ""
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu()) + 1 + SECONDS, resource.RLIM_INFINITY))
        try:
            outcome = read(name, content, folder)
        except BaseException:  # noqa: BLE001 (what it is, is what is looked for)
            outcome, fault = "traceback", traceback.format_exc()
        if peak() - before > MEGABYTES:
            outcome, fault = "memory", f"{peak() - before:.0f} MB more"
        if fault:  # the next file takes the place of `current`
            name = f"{len(list(folder.glob('fault-*')))}.{name}"
            (folder / f"fault-{name}").write_bytes(content)
        results.put((outcome, name, time.monotonic(), fault))

    run()
    results.put(("end", "", np.array([cpu(), cpu(resource.RUSAGE_CHILDREN)]), ""))


def watch(number: int, folder: Path, kept: Path, counts: Counter[str]) -> np.ndarray:
    """Run one round, count its outcomes and keep what is wrong.

    Returns:
        Seconds of CPU of the process, and of those that it has started (which read ORC).
    """
    queue = multiprocessing.get_context("fork").SimpleQueue()
    worker = multiprocessing.get_context("fork").Process(
        target=read_round, args=(number, folder, queue), daemon=True
    )
    worker.start()
    name, begun = "", time.monotonic()
    while True:
        if queue.empty():
            if not worker.is_alive() or time.monotonic() - begun > WAIT:
                break
            time.sleep(0.02)
            continue
        outcome, file_name, at, fault = queue.get()
        if outcome == "end":
            worker.join()
            return np.asarray(at)
        name, begun = file_name, at
        if outcome in ("traceback", "memory"):
            name = name.partition(".")[2]
            keep(kept, folder / f"fault-{file_name}", name, outcome, fault)
        if outcome != "begin":
            counts[outcome] += 1
            counts[f"{name.partition('.')[2]} {outcome}"] += 1
    hangs = worker.is_alive() or worker.exitcode == -signal.SIGXCPU
    outcome = "hang" if hangs else f"crash_{worker.exitcode}"
    worker.kill()
    worker.join()
    counts[outcome] += 1
    if name:
        keep(kept, folder / f"current.{name}", name, outcome, "")
    return np.zeros(2)


def keep(kept: Path, file: Path, name: str, outcome: str, fault: str) -> None:
    number = len(list(kept.iterdir()))
    target = kept / f"{number:03}.{name}"
    target.write_bytes(file.read_bytes())
    if fault:
        (kept / f"{number:03}.{name}.txt").write_text(fault, encoding="utf-8")
    last = fault.strip().splitlines()[-1][:200] if fault else ""
    print(f"{outcome}: {target}: {last}", flush=True)


def main() -> None:
    """Print what fell, and counts of outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="of CPU, ORC included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kept", type=Path, default=Path("fuzz"), help="folder for what fell")
    arguments = parser.parse_args()
    arguments.kept.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    used, number = np.zeros(2), arguments.seed
    with tempfile.TemporaryDirectory() as folder:
        while used.sum() < 60 * arguments.minutes:
            used += watch(number, Path(folder), arguments.kept, counts)
            number += 1
            if number % 20 == 0:
                print(f"{used.sum() / 60:.1f} minutes of CPU, {dict(counts)}", flush=True)
    good = counts["read"] + counts["refused"]
    files = sum(
        count for outcome, count in counts.items() if "." not in outcome and " " not in outcome
    )
    minutes = {"minutes": round(used.sum() / 60, 1), "of_orc": round(used[1] / 60, 1)}
    print(json.dumps({**minutes, "files": files, **counts}))
    sys.exit(files > good)


if __name__ == "__main__":
    main()
