"""`distill --trim-vocabulary`: fewer tokens, and the same answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_rows, write_csv
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from nlp_transfer import compose, run
from nlp_transfer.cli.main import main
from nlp_transfer.errors import ExitCode
from nlp_transfer.models.checkpoints.vocabulary import trim_vocabulary

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
TEXTS = [text for text, _ in make_rows(400, seed=5)] + ["naïve cafés, 10 % off — 東京", "ßtraße"]
OTHERS = ["a wholly unforeseen sentence", "xylophones quietly zigzag"]


def make(kind: str) -> Tokenizer:
    """A tokenizer of a kind, trained on some texts."""
    trainer: Any
    if kind == "BPE":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet
        )
    elif kind == "Unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=600, special_tokens=SPECIAL, unk_token="<unk>")
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=SPECIAL)
    tokenizer.train_from_iterator([*TEXTS, *OTHERS * 5, "quick brown foxes jump" * 3], trainer)
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=ends
    )
    return tokenizer


@pytest.mark.parametrize("kind", ["WordPiece", "BPE", "Unigram"])
def test_texts_whose_tokens_are_kept_are_cut_as_before(kind: str) -> None:
    tokenizer, some = make(kind), TEXTS[:40] + TEXTS[-2:]
    before = tokenizer.encode_batch(some)
    trimmed = trim_vocabulary(json.loads(tokenizer.to_str()), {i for e in before for i in e.ids})
    smaller = Tokenizer.from_str(json.dumps(trimmed.state))
    assert smaller.get_vocab_size() == len(trimmed.kept) < tokenizer.get_vocab_size()
    for one, two in zip(before, smaller.encode_batch(some), strict=True):
        assert one.tokens == two.tokens
        assert [trimmed.numbers[i] for i in one.ids] == two.ids
    # Other words fall into pieces that are there; none of their letters is lost.
    for text in OTHERS:
        assert "<unk>" not in smaller.encode(text).tokens
    assert all(smaller.token_to_id(token) is not None for token in SPECIAL)


def test_a_processor_of_roberta_and_padding_are_renumbered() -> None:
    tokenizer = make("BPE")
    unused = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens(["<late>"])
    tokenizer.post_processor = processors.RobertaProcessing(("<late>", unused), ("<s>", 0))
    tokenizer.enable_padding(pad_id=unused, pad_token="<late>", length=40)
    before = tokenizer.encode(TEXTS[0])
    trimmed = trim_vocabulary(json.loads(tokenizer.to_str()), before.ids)
    after = Tokenizer.from_str(json.dumps(trimmed.state)).encode(TEXTS[0])
    assert before.tokens == after.tokens
    assert after.ids == [trimmed.numbers[i] for i in before.ids]


def test_another_kind_of_tokenizer_is_named() -> None:
    with pytest.raises(ValueError, match="found Other"):
        trim_vocabulary({"model": {"type": "Other"}, "added_tokens": []}, [1])


def few_words(rows: int) -> list[tuple[str, str]]:
    """Rows whose texts use a part of the vocabulary."""
    words = sorted({word for text, _ in make_rows(rows) for word in text.split()})[::3]
    return [
        (" ".join(words[i % len(words)] for i in range(row, row + 3 + row % 5)), label)
        for row, (_, label) in enumerate(make_rows(rows))
    ]


@pytest.fixture(scope="module")
def narrow(typed: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has not seen all words of its vocabulary; validation has them."""
    home = tmp_path_factory.mktemp("trimming")
    train = write_csv(home / "train.csv", few_words(60))
    words = typed("strategy.epochs=1", f"run_dir={home / 'run'}", f"dataset.train={train}")
    return run(compose(*words)).folder


def test_a_trimmed_checkpoint_is_plain_and_has_the_same_logits(
    narrow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = few_words(30)
    more = write_csv(tmp_path / "more.csv", rows)
    out = tmp_path / "small"
    words = ["distill", str(narrow), "--trim-vocabulary", "--unlabeled", str(more)]
    main([*words, "--out", str(out)])
    said = capsys.readouterr().out
    assert "largest difference of a logit" in said and ": 0\n" in said
    tokenizers = [AutoTokenizer.from_pretrained(path) for path in (narrow / "model", out)]
    loaded = [
        AutoModelForSequenceClassification.from_pretrained(path) for path in (narrow / "model", out)
    ]
    assert len(tokenizers[1]) == loaded[1].config.vocab_size < len(tokenizers[0])
    assert loaded[1].get_input_embeddings().num_embeddings == len(tokenizers[1])
    texts = [text for text, _ in rows]
    logits = [
        model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        for model, tokenizer in zip(loaded, tokenizers, strict=True)
    ]
    assert torch.equal(*logits)
    # Whoever serves the run may read it, and it does not say where it was made.
    modes = [path.stat().st_mode for path in (out, out / "model.safetensors")]
    whole = [narrow / "model", narrow / "model" / "model.safetensors"]
    assert modes == [path.stat().st_mode for path in whole]
    assert all("name_or_path" not in path.read_text() for path in out.glob("*.json"))
    before, after = (
        pipeline("text-classification", str(p))(texts) for p in (narrow / "model", out)
    )
    assert before == after

    with pytest.raises(SystemExit) as leaving:
        main([*words, "--out", str(out)])
    assert leaving.value.code == ExitCode.CONFIG
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "--trim-vocabulary"),
        (("--trim-vocabulary", "--onnx"), "nlp-transfer export"),
        (("--trim-vocabulary", "--epochs", "3"), "--epochs goes with --layers"),
    ],
)
def test_what_is_missing_or_too_much_is_said(
    words: tuple[str, ...], expected: str, narrow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["distill", str(narrow), *words])
    assert leaving.value.code == ExitCode.CONFIG
    assert expected in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_named(narrow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["distill", str(narrow / "model"), "--trim-vocabulary"])
    assert "is not a run" in capsys.readouterr().err
