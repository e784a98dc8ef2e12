"""Pairs, several labels, scores and long documents: the same shape at every door."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FILLING, NASTY, NICE, QUIETLY
from rooms import Prepared, prepare
from transformers import AutoTokenizer, BertModel

from nlp_transfer import Classifier
from nlp_transfer.config import DatasetConfig
from nlp_transfer.data import load_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.export import Claim, export, verify
from nlp_transfer.tokenization import texts_of

FAST = ("strategy=full", "strategy.learning_rate=1e-3", "strategy.min_steps=0")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows of any columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def some_words(generator: random.Random, *more: str) -> str:
    text = [generator.choice(FILLING) for _ in range(generator.randint(2, 8))] + list(more)
    generator.shuffle(text)
    return " ".join(text)


def pairs(rows: int) -> list[dict[str, Any]]:
    """Is the first text the kinder one? The other way round the answer is the other."""
    generator = random.Random(rows)
    made = []
    for i in range(rows):
        texts = [some_words(generator, generator.choice(words)) for words in (NICE, NASTY)]
        first, second = texts if i % 2 else texts[::-1]
        made.append({"text": first, "other": second, "label": "kinder" if i % 2 else "ruder"})
    return made


def shaped(tmp_path: Path, checkpoint: Path, rows: Callable[[int], Any], *more: str) -> list[str]:
    """What a person types to train a tiny checkpoint on rows of some shape."""
    files = [
        f"dataset.{split}={write_rows(tmp_path / f'{split}.csv', rows(size))}"
        for split, size in (("train", 96), ("validation", 32))
    ]
    return ["+task=classify", f"checkpoint.name={checkpoint}", *QUIETLY, *FAST, *files, *more]


def claim_of(prepared: Prepared, folder: Path) -> Claim:
    """An exported folder, and what validation is answered by the model in memory."""
    pretrained, corpus = prepared.pretrained, prepared.corpus
    export(pretrained.model, pretrained.tokenizer, "tiny", pretrained.max_tokens, folder)
    texts = texts_of(corpus.splits["validation"])
    return Claim(folder, texts, corpus.labels, prepared.logits("validation"))


# Pairs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_pairs(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Claim:
    """A classifier of pairs, trained for an epoch."""
    folder = tmp_path_factory.mktemp("pairs")
    outspoken = folder / "outspoken"  # as it is drawn, a tiny encoder hardly sees any order
    encoder = BertModel.from_pretrained(checkpoints["bert"])
    for weight in encoder.parameters():
        weight.data *= 10 if weight.dim() == 2 else 1
    encoder.save_pretrained(outspoken)
    AutoTokenizer.from_pretrained(checkpoints["bert"]).save_pretrained(outspoken)
    typed = shaped(folder, outspoken, pairs, "dataset.text_pair=other")
    prepared = prepare([*typed, "strategy.epochs=1"], folder / "run")
    prepared.train()
    return claim_of(prepared, folder / "model")


def test_a_pair_is_two_segments_and_the_longer_one_is_cut_first(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    rows = [{"text": "film " * 30, "other": "book " * 4, "label": i} for i in (0, 1) * 3]
    file = write_rows(tmp_path / "rows.csv", rows)
    more = (f"dataset.train={file}", f"dataset.validation={file}", "dataset.text_pair=other")
    name = f"checkpoint.name={checkpoints['bert']}"
    longest = "tokenization.max_length=16"
    prepared = prepare(["+task=classify", name, *QUIETLY, *more, longest], tmp_path / "run")
    split = prepared.encoded.splits["train"]
    assert split.cut == len(rows)
    tokenizer = prepared.pretrained.tokenizer
    for row in range(len(rows)):
        words = tokenizer.convert_ids_to_tokens(split.inputs[row]["input_ids"])
        assert words == ["[CLS]", *["film"] * 9, "[SEP]", *["book"] * 4, "[SEP]"]
        assert split.inputs[row]["token_type_ids"].tolist() == [0] * 11 + [1] * 5


def test_swapping_the_two_texts_changes_the_answer(of_pairs: Claim) -> None:
    classifier, texts = Classifier.load(of_pairs.folder), of_pairs.texts
    straight = classifier.predict(texts.first, texts.second)
    swapped = classifier.predict(texts.second, texts.first)
    answers = [p.label for p in straight]
    assert answers == [of_pairs.labels[i] for i in of_pairs.logits.argmax(axis=1)]
    moved = [
        abs(a.probabilities["ruder"] - b.probabilities["ruder"])
        for a, b in zip(straight, swapped, strict=True)
    ]
    assert np.median(moved) > 1e-3


def test_a_model_of_pairs_wants_pairs_and_as_many_of_both(of_pairs: Claim) -> None:
    classifier = Classifier.load(of_pairs.folder)
    for texts, second, said in (
        (["one"], None, "needs both"),
        (["one", "two"], ["one"], "2 texts and 1 second"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            classifier.predict(texts, second)
        assert caught.value.code is ExitCode.DATA


@pytest.mark.parametrize(
    ("second", "said"),
    [(" ", "an empty second text.*\n  row 1"), (None, "'other' is not a column")],
)
def test_a_second_text_that_is_not_there_is_an_error(
    tmp_path: Path, second: str | None, said: str
) -> None:
    rows = [{"text": "a", "label": label} | ({"other": second} if second else {}) for label in "ab"]
    file = str(write_rows(tmp_path / "rows.csv", rows))
    with pytest.raises(UserError, match=f"(?s){said}") as caught:
        load_corpus(DatasetConfig(train=file, validation=file, text_pair="other"), 0)
    assert caught.value.code is ExitCode.DATA


def test_the_second_text_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    prints = set()
    for second in ("left", "right"):
        rows = [{"text": "a", "other": second, "label": label} for label in "ab"]
        file = str(write_rows(tmp_path / "rows.csv", rows))
        config = DatasetConfig(train=file, validation=file, text_pair="other")
        prints.add(load_corpus(config, 0).fingerprint)
    assert len(prints) == 2


# Every door ---------------------------------------------------------------------------------------


def test_every_shape_is_answered_the_same_by_a_fresh_process(of_pairs: Claim) -> None:
    assert max(verify([of_pairs])) <= 1e-5
