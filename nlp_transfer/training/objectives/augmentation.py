"""Changes the texts of train each time that they are read (`training.augment`).

Which words change is a function of the seed, the epoch and the place in it: the same on any number
of processes, and in a run that was interrupted. Texts are changed before they are cut into tokens.

Word dropout and swaps: Wei and Zou 2019, "EDA". Typing mistakes: Belinkov and Bisk 2018, "Synthetic
and natural noise both break neural machine translation". Mixing keeps the label, so it needs two
texts of one (unlike Zhang et al. 2018, who mix the labels, too).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.training import AugmentConfig, TrainingConfig
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.tokenization.batches import encode_texts
from nlp_transfer.tokenization.encoded import Draw, EncodedSplit
from nlp_transfer.tokenization.encoding import input_length, select_texts
from nlp_transfer.tokenization.model_inputs import Inputs, Pairs, Texts
from nlp_transfer.tokenization.windows import LongTextPolicy
from nlp_transfer.training.losses import Loss

KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
SHORTEST = 3  # letters of a word with a typing mistake


def is_augmented(training: TrainingConfig, loss: Loss) -> bool:
    """Whether a stage that learns by gradient reads changed texts: those with labels of train."""
    return training.augment != AugmentConfig() and loss.reads in ("logits", "embeddings")


@dataclass(frozen=True)
class AugmentedTexts:
    """The texts of train as they are read this time."""

    texts: Texts
    mates: list[np.ndarray]  # of each row, all rows with its label; none where nothing is mixed
    pretrained: Pretrained
    length: int  # tokens of the longest input
    long_text: LongTextPolicy
    augment: AugmentConfig
    seed: int

    @classmethod
    def of(
        cls, config: Config, pretrained: Pretrained, train: EncodedSplit, seed: int
    ) -> AugmentedTexts:
        """Those of the rows of a training."""
        assert train.texts is not None, "load_and_encode keeps them"
        augment = config.training.augment
        return cls(
            train.texts,
            rows_with_same_label(train.labels) if augment.mix else [],
            pretrained,
            input_length(pretrained.max_tokens, config.tokenization),
            LongTextPolicy.from_config(config.tokenization),
            augment,
            seed,
        )

    def __call__(self, draws: Sequence[Draw]) -> Inputs:
        """The inputs of the rows that are drawn."""
        texts = select_texts(self.texts, [draw.row for draw in draws])
        if isinstance(texts, Pairs):
            texts = Pairs(self._changed(texts.first, draws), self._changed(texts.second, draws, 1))
        else:
            texts = self._changed(texts, draws)
        return encode_texts(texts, self.pretrained.tokenizer, self.length, self.long_text)

    def _changed(self, texts: Sequence[str], draws: Sequence[Draw], side: int = 0) -> list[str]:
        changed = []
        for text, draw in zip(texts, draws, strict=True):
            generator = np.random.default_rng([self.seed, draw.epoch, draw.place, side])
            if self.mates and generator.random() < self.augment.mix:
                assert not isinstance(self.texts, Pairs), "pairs are not mixed"
                text = mix(text, self.texts[generator.choice(self.mates[draw.row])], generator)
            changed.append(change_words(text, self.augment, generator))
        return changed


def rows_with_same_label(labels: np.ndarray) -> list[np.ndarray]:
    """Of each row the rows with the same label, or with the same labels: its own among them."""
    distinct, groups = np.unique(labels.reshape(len(labels), -1), axis=0, return_inverse=True)
    groups = groups.reshape(-1)
    rows = [np.flatnonzero(groups == group) for group in range(len(distinct))]
    return [rows[group] for group in groups]


def mix(text: str, other: str, generator: np.random.Generator) -> str:
    """The beginning of one text and the end of the other, cut at the same share of their words."""
    share = generator.uniform(0.25, 0.75)
    first, second = text.split(), other.split()
    return " ".join([*first[: round(share * len(first))], *second[round(share * len(second)) :]])


def change_words(text: str, augment: AugmentConfig, generator: np.random.Generator) -> str:
    """A text with words left out, words exchanged, and typing mistakes; never an empty one."""
    words = text.split()
    if not words:
        return text
    if augment.word_dropout:
        keeps = generator.random(len(words)) >= augment.word_dropout
        keeps[generator.integers(len(words))] = True
        words = [word for word, keep in zip(words, keeps, strict=True) if keep]
    if augment.word_swap:
        for place in np.flatnonzero(generator.random(len(words) - 1) < augment.word_swap):
            words[place], words[place + 1] = words[place + 1], words[place]
    if augment.typos:
        mistaken = generator.random(len(words)) < augment.typos
        words = [
            mistype(word, generator) if wrong else word
            for word, wrong in zip(words, mistaken, strict=True)
        ]
    return " ".join(words)


def mistype(word: str, generator: np.random.Generator) -> str:
    """A word with one typing mistake; short words, and those without letters, stay."""
    letters = [i for i, sign in enumerate(word) if sign.isalpha()]
    if len(letters) < SHORTEST:
        return word
    place = letters[generator.integers(len(letters))]
    before, sign, after = word[:place], word[place], word[place + 1 :]
    kind = generator.integers(4)
    if kind == 0:
        return before + after
    if kind == 1:
        return before + sign + sign + after
    near = _neighbours(sign)
    if kind == 2 and near:
        return before + near[generator.integers(len(near))] + after
    if not after:  # exchanged with the one before it
        return before[:-1] + sign + before[-1]
    return before + after[0] + sign + after[1:]


def _neighbours(sign: str) -> str:
    """The letters beside one, to the left, to the right, above and below; of others none."""
    for i, row in enumerate(KEYBOARD):
        place = row.find(sign.lower())
        if place >= 0:
            around = [row[max(place - 1, 0) : place], row[place + 1 : place + 2]]
            around += [other[place : place + 1] for other in KEYBOARD[max(i - 1, 0) : i]]
            around += [other[place : place + 1] for other in KEYBOARD[i + 1 : i + 2]]
            near = "".join(around)
            return near.upper() if sign.isupper() else near
    return ""
