"""How long the data report takes on many short texts, tokenization apart.

python scripts/check_speed.py texts.parquet --rows 100000

A file with fewer rows is repeated with a third of its words drawn anew; every tenth row stays as it
is, every tenth differs in its last word alone.
"""

from __future__ import annotations

import argparse
import random
import time

from datasets import Dataset

from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.config.sections.tokenization import TokenizationConfig
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.data.sources import read_files
from nlp_transfer.models.checkpoints.source import EMBEDDED
from nlp_transfer.models.loading import load_tokenizer
from nlp_transfer.quality.checks import count_tokens, find_all
from nlp_transfer.tokenization.encoding import texts_of


def main() -> None:
    """Print seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--text", default="text")
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    texts = [str(text) for text in read_files(options.file, "file")[0].table[options.text]]
    corpus = made_of(texts, options.rows)
    tokenizer, longest = load_tokenizer(CheckpointConfig(EMBEDDED))
    start = time.perf_counter()
    tokens = {name: count_tokens(texts_of(rows), tokenizer) for name, rows in corpus.splits.items()}
    tokenized = time.perf_counter()
    findings = find_all(corpus, tokens, longest, TokenizationConfig())
    checked = time.perf_counter()
    characters = sum(len(text) for rows in corpus.splits.values() for text in rows["text"][:])
    print(f"{options.rows:,} texts of {characters / options.rows:.0f} characters on average")
    print(f"tokenization {tokenized - start:.1f} s, the checks {checked - tokenized:.1f} s")
    for finding in findings:
        print(f"{finding.level.value:<9}{finding.sentence}")


def made_of(texts: list[str], count: int) -> Corpus:
    """A corpus of so many rows, a tenth of them validation and a tenth test."""
    generator = random.Random(0)
    words = " ".join(texts).split()
    rows = []
    for i in range(count):
        text = texts[i % len(texts)].split()
        if i >= len(texts) and i % 10 == 1:
            text[-1] = generator.choice(words)
        elif i >= len(texts) and i % 10:
            for k in generator.sample(range(len(text)), -(-len(text) // 3)):
                text[k] = generator.choice(words)
        rows.append(" ".join(text))
    generator.shuffle(rows)
    borders = {"train": (0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1)}
    splits = {}
    for split, (start, end) in borders.items():
        part = rows[int(start * count) : int(end * count)]
        columns = {"text": part, "label": [i % 2 for i in range(len(part))]}
        columns |= {"source": ["made"] * len(part), "row": list(range(1, len(part) + 1))}
        splits[split] = Dataset.from_dict(columns)
    return Corpus(splits, ("a", "b"), "", ())


if __name__ == "__main__":
    main()
