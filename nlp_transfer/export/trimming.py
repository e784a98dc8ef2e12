"""Writes a copy of a run's checkpoint without the tokens that its texts never use."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.data.sources import read_files
from nlp_transfer.data.usable_rows import read_texts
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.export.checkpoint import export
from nlp_transfer.inference.classifier import find_model
from nlp_transfer.inference.torch_engine import TorchEngine
from nlp_transfer.models.checkpoints.vocabulary import Trimmed, trim_vocabulary
from nlp_transfer.runs.names import CONFIG_FILE, RUN_FILE
from nlp_transfer.runs.reopen import reopen
from nlp_transfer.utils.files import not_a_run, read_json, write_json, write_text
from nlp_transfer.utils.logging import quiet

COMPARED = 256  # texts whose logits are compared
ROUNDING = 1e-5  # of a score
BATCH = 1000  # texts of one call of the tokenizer
VOCABULARY_FILES = ("vocab.txt", "vocab.json", "merges.txt", "*.model")  # tokenizer.json has it
CARD = "README.md"


@dataclass(frozen=True)
class TrimmedCheckpoint:
    """What was left out, and what that changes."""

    folder: Path
    tokens: tuple[int, int]  # before and after
    megabytes: tuple[float, float]  # of the weights
    texts: int  # whose tokens were kept
    difference: float  # largest of a logit, on some of them
    others: int  # texts of validation and test
    cut_differently: int  # of these
    answered_differently: int  # of these

    def __str__(self) -> str:
        tokens = f"{self.tokens[0]:,} tokens before, {self.tokens[1]:,} now"
        sizes = f"weights {self.megabytes[0]:.1f} MB before, {self.megabytes[1]:.1f} MB now"
        same = f"{self.texts:,} texts have the same tokens; largest difference of a logit on "
        lines = [tokens, sizes, f"{same}{min(self.texts, COMPARED)} of them: {self.difference:g}"]
        if self.others:
            lines.append(
                f"of {self.others:,} other texts (validation, test), {self.cut_differently:,} are "
                f"cut into other tokens and {self.answered_differently:,} get another answer"
            )
        else:
            lines.append(
                "no validation or test text is left to see what other texts lose: trim with many "
                "--unlabeled texts"
            )
        lines.append("a word with a token that was left out is cut into smaller pieces")
        return "\n".join([*lines, f"Trimmed: {self.folder}"])


@dataclass(frozen=True)
class Rows:
    """Texts, and second texts where rows are pairs."""

    first: list[str]
    second: list[str]

    @property
    def columns(self) -> list[list[str]]:
        """One or two."""
        return [self.first, self.second] if self.second else [self.first]

    @property
    def texts(self) -> list[str]:
        """Every text by itself."""
        return self.first + self.second

    def some(self, count: int) -> Rows:
        """At most so many rows from the beginning."""
        return Rows(self.first[:count], self.second[:count])


def trim(
    run: Path, unlabeled: str | None, out: Path, threads: int | None = None
) -> TrimmedCheckpoint:
    """Keep the tokens of the texts that the run has learned from, and of a file of more texts.

    `out` is a plain checkpoint, which is there when it is whole.

    Args:
        threads: of the CPU; None: the library's own choice.

    Raises:
        UserError: there is no run, `out` exists, the tokenizer is of a kind that cannot be trimmed,
            or the trimmed checkpoint does not answer as before.
    """
    model = find_model(run)
    _refuse_unfitting(run, out)
    config, learned, others = _texts_of(run, unlabeled)
    with quiet():
        classifier = AutoModelForSequenceClassification.from_pretrained(model)
        tokenizer = AutoTokenizer.from_pretrained(model)
    trimmed = _trim_tokenizer(tokenizer, learned.texts, classifier, run)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{out.name}.part-", dir=out.parent) as home:
        _keep_rows(classifier, trimmed)
        name, length = config.checkpoint.name, tokenizer.model_max_length
        partial = export(classifier, tokenizer, name, length, Path(home) / out.name)
        _write_tokenizer(trimmed, model, partial)
        with quiet():
            smaller = AutoTokenizer.from_pretrained(partial)
        _refuse_other_tokens(tokenizer, smaller, trimmed, learned.texts)
        engines = [TorchEngine.load(folder, threads) for folder in (model, partial)]
        before, after = _logits(engines, learned.some(COMPARED))
        answered = _answered_differently(engines, others)
        _refuse_unfitting(run, out)  # another process may have been as quick
        partial.rename(out)
    rows = zip(*others.columns, strict=True)
    return TrimmedCheckpoint(
        out,
        (len(tokenizer), len(smaller)),
        (_megabytes(model), _megabytes(out)),
        len(learned.first),
        float(np.abs(before - after).max()),
        len(others.first),
        sum(_is_cut_differently(tokenizer, smaller, row) for row in rows),
        answered,
    )


def _refuse_unfitting(run: Path, out: Path) -> None:
    if not (run / CONFIG_FILE).is_file():
        raise UserError(
            ExitCode.CONFIG,
            f"{not_a_run(run)}, so the texts it has learned from are unknown: expected the "
            "folder of a finished run.",
        )
    if out.exists():
        raise UserError(ExitCode.CONFIG, f"{out} is there already. Move it, or add --out FOLDER.")


def _texts_of(run: Path, unlabeled: str | None) -> tuple[Config, Rows, Rows]:
    """The configuration of a run, the texts whose tokens are kept, and those held out."""
    config, corpus = reopen(run, "or trim another run", "Train it from files.")
    held_out = [name for name in ("validation", "test") if name in corpus.splits]
    if read_json(run / RUN_FILE).get("refit"):
        held_out = []  # the final model has learned from them, too
    learned = _rows(corpus, [name for name in corpus.splits if name not in held_out])
    if unlabeled is not None:
        columns = (config.dataset.text, config.dataset.text_pair)
        first, second = read_texts(read_files(unlabeled, "--unlabeled"), *columns)
        learned = Rows(learned.first + first, learned.second + second)
    return config, learned, _rows(corpus, held_out)


def _rows(corpus: Corpus, splits: Sequence[str]) -> Rows:
    columns: dict[str, list[str]] = {"text": [], "text_pair": []}
    for split in splits:
        for name, texts in columns.items():
            if name in corpus.splits[split].column_names:
                texts += corpus.splits[split][name]
    return Rows(columns["text"], columns["text_pair"])


def _trim_tokenizer(
    tokenizer: Any, texts: Sequence[str], model: PreTrainedModel, run: Path
) -> Trimmed:
    if not tokenizer.is_fast or model.config.is_encoder_decoder:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"The vocabulary of {run} cannot be trimmed: expected an encoder with a fast "
            "tokenizer (tokenizer.json).",
        )
    used = {i for batch in _batches(texts) for ids in _ids(tokenizer, batch) for i in ids}
    try:
        return trim_vocabulary(json.loads(tokenizer.backend_tokenizer.to_str()), used)
    except ValueError as error:
        raise UserError(
            ExitCode.CHECKPOINT, f"The vocabulary of {run} cannot be trimmed: {error}."
        ) from error


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), BATCH):
        yield texts[start : start + BATCH]


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]


def _is_cut_differently(one: Any, other: Any, row: Sequence[str]) -> bool:
    """Whether the tokens of a row's texts differ, by name."""
    ids = [_ids(tokenizer, row) for tokenizer in (one, other)]
    names = [
        [tokenizer.convert_ids_to_tokens(text) for text in texts]
        for tokenizer, texts in zip((one, other), ids, strict=True)
    ]
    return names[0] != names[1]


def _answered_differently(engines: Sequence[TorchEngine], rows: Rows) -> int:
    """How many rows get another answer; of scores, one that differs by more than rounding."""
    if not rows.first:
        return 0
    before, after = _logits(engines, rows)
    decoder = engines[0].decoder
    if not decoder.problem.has_labels:
        return int((np.abs(before - after) > ROUNDING).any(axis=1).sum())
    one, other = (decoder.decide(decoder.probabilities(logits)) for logits in (before, after))
    return int((one != other).reshape(len(rows.first), -1).any(axis=1).sum())


def _keep_rows(model: PreTrainedModel, trimmed: Trimmed) -> None:
    """Cut the embeddings of a model down to the tokens that are kept."""
    embedding, numbers = model.get_input_embeddings(), trimmed.numbers
    padding = None if embedding.padding_idx is None else numbers[embedding.padding_idx]
    rows = embedding.weight.detach()[trimmed.kept].clone()
    model.set_input_embeddings(
        nn.Embedding.from_pretrained(rows, freeze=False, padding_idx=padding)
    )
    model.config.vocab_size = len(trimmed.kept)
    for name, value in model.config.to_dict().items():
        if name.endswith("_token_id") and isinstance(value, int):
            setattr(model.config, name, numbers.get(value))


def _write_tokenizer(trimmed: Trimmed, source: Path, into: Path) -> None:
    """In the place of the whole one; and the card of the checkpoint."""
    for file in (file for pattern in VOCABULARY_FILES for file in into.glob(pattern)):
        file.unlink()
    write_text(into / "tokenizer.json", json.dumps(trimmed.state, ensure_ascii=False))
    settings = read_json(into / "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        added, numbers = settings["added_tokens_decoder"].items(), trimmed.numbers
        settings["added_tokens_decoder"] = {str(numbers[int(i)]): token for i, token in added}
    write_json(into / "tokenizer_config.json", settings)
    if (source / CARD).is_file():
        shutil.copy(source / CARD, into / CARD)


def _refuse_other_tokens(
    tokenizer: Any, smaller: Any, trimmed: Trimmed, texts: Sequence[str]
) -> None:
    for batch in _batches(texts):
        pairs = zip(batch, _ids(tokenizer, batch), _ids(smaller, batch), strict=True)
        for text, before, after in pairs:
            if [trimmed.numbers[i] for i in before] != after:
                raise UserError(
                    ExitCode.EXPORT,
                    f"Nothing is written: the trimmed tokenizer cuts {text[:60]!r} into other "
                    "tokens. Export this checkpoint as it is.",
                )


def _logits(engines: Sequence[TorchEngine], rows: Rows) -> list[np.ndarray]:
    return [engine.logits(engine.encode(rows.first, rows.second or None)) for engine in engines]


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
