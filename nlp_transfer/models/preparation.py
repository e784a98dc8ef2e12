"""Loads a checkpoint and encodes a corpus for it: the one way from a configuration to both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.training import AugmentConfig
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.models.loading import Pretrained, load_pretrained
from nlp_transfer.models.strategies.auto_strategy import usable_label_texts
from nlp_transfer.tokenization.batches import encode_texts
from nlp_transfer.tokenization.encoded import Encoded, EncodedSplit
from nlp_transfer.tokenization.encoding import encode, input_length, texts_of, write_input_settings
from nlp_transfer.tokenization.windows import LongTextPolicy
from nlp_transfer.utils.distributed import ProcessContext


def load_and_encode(
    config: Config, corpus: Corpus, process: ProcessContext | None = None
) -> tuple[Pretrained, Encoded]:
    """The checkpoint with a head for the corpus's labels, and every split encoded for it.

    The model's configuration says afterwards how texts are read, so that every engine reads alike
    (and stored features, which are named by it, are found again).

    Args:
        process: None: nothing is written to the token cache.

    Raises:
        UserError: if the checkpoint cannot be loaded, or `tokenization` asks for what it cannot do.
    """
    pretrained = load_pretrained(config.checkpoint, corpus.labels, config.seed, corpus.problem)
    if process is not None:
        pretrained.model.to(process.device)
    encoded = encode(
        corpus, pretrained.tokenizer, pretrained.max_tokens, config.tokenization, process
    )
    if config.training.augment != AugmentConfig():
        encoded = _with_texts(encoded, corpus)
    train = texts_of(corpus.splits["train"])
    write_input_settings(pretrained.model.config, train, config.tokenization)
    return pretrained, encoded


def _with_texts(encoded: Encoded, corpus: Corpus) -> Encoded:
    """What a training that changes texts needs of every split that it may learn from."""
    splits = {
        name: replace(split, texts=texts_of(corpus.splits[name]))
        for name, split in encoded.splits.items()
    }
    unlabeled = encoded.unlabeled
    if unlabeled is not None and corpus.unlabeled is not None:
        unlabeled = replace(unlabeled, texts=texts_of(corpus.unlabeled))
    return replace(encoded, splits=splits, unlabeled=unlabeled)


def encode_label_texts(
    config: Config, corpus: Corpus, pretrained: Pretrained
) -> EncodedSplit | None:
    """One row for each label: its name or description; None where these say nothing."""
    texts = usable_label_texts(config, corpus)
    if texts is None:
        return None
    length = input_length(pretrained.max_tokens, config.tokenization)
    policy = LongTextPolicy.from_config(config.tokenization)
    several = corpus.problem.several
    labels = np.eye(len(texts), dtype=np.float32) if several else np.arange(len(texts))
    inputs = encode_texts(texts, pretrained.tokenizer, length, policy)
    return EncodedSplit(inputs, labels, 0, texts)
