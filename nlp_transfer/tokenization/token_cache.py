"""Tokenizes a split once, for all processes and for later runs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nlp_transfer.config.choices import LongText
from nlp_transfer.tokenization.batches import cut_batches, encode_split
from nlp_transfer.tokenization.model_inputs import Inputs, Pairs, Texts, some_texts
from nlp_transfer.tokenization.stored_tokens import (
    TokenBatch,
    read_inputs,
    write_batches,
    write_inputs,
)
from nlp_transfer.tokenization.windows import LongTextPolicy
from nlp_transfer.utils.cache import find_or_make, forget_the_oldest
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_rank_zero, wait
from nlp_transfer.utils.logging import logger

KEEP_GB = 1.0  # of tokens, for later runs; those not used for longest go first
PART = 250_000  # texts whose tokens a kill does not lose, of more texts than that


@dataclass(frozen=True)
class TokenCache:
    """The tokens of texts, in a folder of their own, named by all that they depend on."""

    home: Path
    tokenizer: Any
    length: int
    """The longest input, special tokens included."""
    long_text: LongTextPolicy

    def encode(self, texts: Texts, process: ProcessContext) -> tuple[Inputs, int]:
        """As `encode_split`, by one process of a node and once for all runs."""
        name = broadcast_from_rank_zero(lambda: self._key(texts), process)
        encoded = self._stored(texts, name, process)
        wait(process)
        if process.is_first_of_node:
            forget_the_oldest(self.home, KEEP_GB)
        return encoded

    def _stored(self, texts: Texts, name: str, process: ProcessContext) -> tuple[Inputs, int]:
        def write(folder: Path) -> None:
            if self.long_text.long_text is not LongText.truncate:
                encoded = encode_split(texts, self.tokenizer, self.length, self.long_text)
                write_inputs(folder, *encoded)
            elif len(texts) > PART:
                self._write_parts(folder, texts, process)
            else:
                write_batches(folder, cut_batches(texts, self.tokenizer, self.length))

        find_or_make(self.home / name, write, lambda _: None, process, lambda: None)
        return read_inputs(self.home / name, self.long_text)

    def _write_parts(self, folder: Path, texts: Texts, process: ProcessContext) -> None:
        """Some texts after the others; what is done is kept until all of it is."""
        alone = replace(process, rank=0, world_size=1, local_rank=0, local_world_size=1)
        names: list[str] = []

        def batches() -> Iterator[TokenBatch]:
            for start in range(0, len(texts), PART):
                part = some_texts(texts, slice(start, start + PART))
                names.append(self._key(part))
                inputs, cut = self._stored(part, names[-1], alone)
                done = f"{start + len(part):,}"
                logger.info("tokenized: %s of %s texts", done, f"{len(texts):,}")
                yield TokenBatch(inputs.flat, inputs.lengths, cut)

        write_batches(folder, batches())
        for name in set(names):
            shutil.rmtree(self.home / name, ignore_errors=True)

    def _key(self, texts: Texts) -> str:
        """The content that tokens are a function of."""
        tokenizer, long_text = self.tokenizer, self.long_text
        about = [type(tokenizer).__name__, self.length]
        about += [tokenizer.padding_side, tokenizer.truncation_side]
        about += [long_text.long_text.value, long_text.stride]
        digest = hashlib.sha256(repr(about).encode())
        itself = json.loads(tokenizer.backend_tokenizer.to_str())
        for name in ("truncation", "padding"):  # as the last call left them
            itself.pop(name, None)
        digest.update(json.dumps(itself).encode())
        for column in (texts.first, texts.second) if isinstance(texts, Pairs) else (texts,):
            digest.update(f"\0\0{len(column)}".encode())
            for text in column:
                digest.update(f"\0{text}".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:24]
