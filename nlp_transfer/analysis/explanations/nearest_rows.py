"""The rows of train that a text is most like, by frozen features of the run's checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nlp_transfer.data.corpus import answers_of
from nlp_transfer.features.cache import mean_features
from nlp_transfer.features.summaries import MEAN, row_normalised, summaries
from nlp_transfer.models.preparation import load_and_encode
from nlp_transfer.runs.reopen import reopen
from nlp_transfer.tokenization.batches import encode_texts
from nlp_transfer.tokenization.encoded import Encoded
from nlp_transfer.tokenization.encoding import input_length
from nlp_transfer.tokenization.model_inputs import Pairs
from nlp_transfer.tokenization.windows import LongTextPolicy
from nlp_transfer.utils.distributed import join
from nlp_transfer.utils.logging import warnings_only

GIVE_AGAIN = "Leave out --neighbours."


@dataclass(frozen=True)
class Neighbour:
    """A row of train."""

    similarity: float  # cosine, around the mean of train
    label: str
    text: str
    place: str  # file and row
    text_pair: str | None = None


@warnings_only()  # nothing is trained: what a run says of its checkpoint is of no use here
def nearest_rows(
    folder: Path, texts: Sequence[str], text_pairs: Sequence[str] | None, count: int
) -> list[list[Neighbour]]:
    """For each text the rows of train that are most like it, the nearest first.

    Features are the mean of the last layer of the checkpoint that the run began with; those of
    train are found where the run, or an earlier command, stored them.

    Raises:
        UserError: if the data of the run cannot be read again.
    """
    config, corpus = reopen(folder, "or leave out --neighbours", GIVE_AGAIN)
    process = join(config.training)
    pretrained, encoded = load_and_encode(config, corpus, process)
    length = input_length(pretrained.max_tokens, config.tokenization)
    questions = list(texts) if text_pairs is None else Pairs(list(texts), list(text_pairs))
    policy = LongTextPolicy.from_config(config.tokenization)
    inputs = encode_texts(questions, pretrained.tokenizer, length, policy)
    # Before the features of train: these may add a layer to the model.
    layer = [pretrained.structure.layers]
    own = summaries(pretrained, inputs, encoded.collator, layer)[:, 0, MEAN]
    splits = {name: split for name, split in encoded.splits.items() if name != "test"}
    encoded = Encoded(splits, encoded.collator)
    train = row_normalised(mean_features(pretrained, encoded, config.features, process)["train"])
    mean = train.mean(axis=0)
    similarities = _unit(own - mean) @ _unit(train - mean).T
    rows = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
    labels, split = answers_of(corpus, "train"), corpus.splits["train"]
    paired = "text_pair" in split.column_names
    return [
        [
            Neighbour(
                float(similarities[i, row]),
                labels[row],
                split[int(row)]["text"],
                place,
                split[int(row)]["text_pair"] if paired else None,
            )
            for row, place in zip(of_text, corpus.places("train", of_text), strict=True)
        ]
        for i, of_text in enumerate(rows)
    ]


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
