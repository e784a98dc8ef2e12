"""Tiny corpora and what tests share; nothing here needs a network.

What imports torch is imported by fixtures: the process that hands tests to workers waits for none.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # two workers share two cores, and most models are tiny

import csv
import functools
import gc
import logging
import random
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

# As the first run of a process leaves it, so that no test depends on which one comes first.
logging.getLogger("nlp_transfer").addHandler(logging.NullHandler())
logging.getLogger("nlp_transfer").propagate = False

NICE = [
    "lovely",
    "warm",
    "clever",
    "bright",
    "generous",
    "splendid",
    "tasty",
    "gentle",
    "swift",
    "charming",
]
NASTY = ["dreadful", "cold", "stupid", "dim", "stingy", "shabby", "bland", "rude", "slow", "boring"]
THINGS = ["film", "book", "hotel", "soup", "phone", "train", "lamp", "coat", "game", "plumber"]
FILLING = [
    "the",
    "a",
    "was",
    "and",
    "quite",
    "really",
    "we",
    "found",
    "it",
    "with",
    "on",
    "our",
    "very",
]
# Tiny models gain nothing from a second thread, and lose a lot where both cores are busy.
# float32, so that the figures do not depend on whether the CPU has AMX.
# The process that verifies imports torch for seconds: test_smoke, test_export and others start it.
QUIETLY = (
    "training.cpu=true",
    "training.threads=1",
    "training.precision=fp32",
    "export.fresh_process=false",
)
ARCHITECTURES = ("bert", "roberta", "distilbert")
# What the classifiers with random weights say, and the texts on which they say each of it.
LABELS = ("bad", "good", "neither")


def pytest_collection_finish() -> None:
    """Keep what was imported out of the garbage collections with which every `Trainer` begins."""
    gc.freeze()


def slow_but(quick: Iterable[str], names: Iterable[str]) -> list[Any]:
    """Parameters of which only some are tried every time; the others are slow tests."""
    slow = pytest.mark.slow
    return [n if n in quick else pytest.param(n, marks=slow) for n in names]


def without_addresses(value: object) -> str:
    """The text of a value, the same in every process: pytest's workers compare the tests' names."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def make_rows(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Short texts of varying length whose label is plain to see."""
    generator = random.Random(seed)
    rows = []
    for i in range(count):
        words, label = (NICE, "positive") if i % 2 else (NASTY, "negative")
        text = [generator.choice(FILLING) for _ in range(generator.randint(2, 20))]
        text += [generator.choice(THINGS), generator.choice(words), generator.choice(words)]
        generator.shuffle(text)
        rows.append((" ".join(text), label))
    return rows


SAMPLE_TEXTS = [text for text, _ in make_rows(60, seed=7)]


def texts_by_kindness(rows: int) -> list[tuple[str, int]]:
    """Texts in which 0 to 4 of four words are kind, and how many are."""
    generator = random.Random(rows)
    texts = []
    for i in range(rows):
        kind = i % 5
        words = [generator.choice(NICE) for _ in range(kind)]
        words += [generator.choice(NASTY) for _ in range(4 - kind)]
        words += [generator.choice(FILLING) for _ in range(generator.randint(2, 6))]
        generator.shuffle(words)
        texts.append((" ".join(words), kind))
    return texts


def mislabelled_files(folder: Path, sizes: dict[str, int], share: float) -> list[str]:
    """The overrides that name a file for each split, with a share of its labels made negative."""
    generator = random.Random(0)
    overrides = []
    for seed, (split, size) in enumerate(sizes.items()):
        rows = [
            (text, label if generator.random() > share else "negative")
            for text, label in make_rows(size, seed)
        ]
        overrides.append(f"dataset.{split}={write_csv(folder / f'{split}.csv', rows)}")
    return overrides


def write_csv(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Rows with the columns `text` and `label`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a pretrained encoder and its tokenizer for each architecture."""
    from tiny_models import make_encoder, make_tokenizer

    folders = {}
    for architecture in ARCHITECTURES:
        folder = tmp_path_factory.mktemp("checkpoints") / f"tiny-{architecture}"
        family = "roberta" if architecture == "roberta" else "bert"
        tokenizer = make_tokenizer(family, segments=architecture == "bert")
        make_encoder(architecture, len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders[architecture] = folder
    return folders


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three files: 101 rows of train, 32 of validation, 33 of test."""
    folder = tmp_path_factory.mktemp("corpus")
    sizes = {"train": 101, "validation": 32, "test": 33}
    return {
        split: write_csv(folder / f"{split}.csv", make_rows(size, seed))
        for seed, (split, size) in enumerate(sizes.items())
    }


@pytest.fixture(scope="session")
def exported(
    checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Any]:
    """An architecture with ONNX, and int8 whatever it is worth; made when it is first asked for."""
    import numpy as np
    from tiny_models import save_classifier

    from nlp_transfer.export.onnx import export_onnx
    from nlp_transfer.export.onnx_parity import Questions

    home = tmp_path_factory.mktemp("onnx")
    references = np.arange(len(SAMPLE_TEXTS)) % 3
    questions = Questions(SAMPLE_TEXTS, references, "made-up texts")

    @functools.cache
    def export(architecture: str) -> Any:
        folder = save_classifier(checkpoints[architecture], home / architecture)
        return export_onnx(folder, questions, int8=True, force=True, threads=1)

    return export


def last_of_each(*words: str) -> list[str]:
    """Each key once, with the value that was given last."""
    return list({word.partition("=")[0].lstrip("+"): word for word in words}.values())


@pytest.fixture(scope="session")
def typed(checkpoints: dict[str, Path], reviews: dict[str, Path]) -> Callable[..., list[str]]:
    """What a person types to train a tiny checkpoint on the tiny corpus."""

    def overrides(*more: str, architecture: str = "bert") -> list[str]:
        files = [f"dataset.{split}={path}" for split, path in reviews.items()]
        name = f"checkpoint.name={checkpoints[architecture]}"
        # What `auto` chooses, and how long few rows are trained on, is measured: tests say it.
        usual = () if any(m.startswith("strategy=") for m in more) else ("strategy=full",)
        short = ("strategy.min_steps=0", "evaluation.folds=0")
        words = ["+task=classify", name, *QUIETLY, *files, *usual, *short]
        return last_of_each(*words, *more)

    return overrides


@pytest.fixture(scope="session")
def finished(
    checkpoints: dict[str, Path],
    reviews: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A real run, tested on 400 rows; it is shared, so nobody writes into it."""
    from nlp_transfer import compose, run

    home = tmp_path_factory.mktemp("finished")
    test = write_csv(home / "test.csv", make_rows(400, seed=9))
    words = ["+task=classify", f"checkpoint.name={checkpoints['bert']}", f"dataset.test={test}"]
    words += [f"dataset.{split}={reviews[split]}" for split in ("train", "validation")]
    words += ["strategy=full", "strategy.epochs=8", "strategy.learning_rate=1e-3", *QUIETLY]
    words += [f"tokenization.folder={home / 'tokens'}", f"features.folder={home / 'features'}"]
    return run(compose(*words, f"run_dir={home / 'run'}")).folder


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test runs where nothing is, and may look afterwards what it left there."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
