"""Publishes a finished run: examples on its card where they are allowed, and the upload."""

from __future__ import annotations

from pathlib import Path

from nlp_transfer.config.sections.delivery import HubConfig
from nlp_transfer.data.corpus import Corpus, answers_of
from nlp_transfer.hub import upload
from nlp_transfer.reporting.card.card import CARD_FILE
from nlp_transfer.reporting.card.examples import one_of_each, shows_examples, with_examples
from nlp_transfer.tokenization.encoding import texts_of
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_rank_zero
from nlp_transfer.utils.files import write_text


def refuse_upload(config: HubConfig, process: ProcessContext) -> None:
    """Stop before training where the repository could not be written.

    Raises:
        UserError: on every process.
    """
    if config.repository is not None:
        broadcast_from_rank_zero(lambda: upload.check(config), process)


def publish(config: HubConfig, corpus: Corpus, model: Path) -> None:
    """Show rows of the data on the card where that was asked for, and upload."""
    card, split = model / CARD_FILE, corpus.deciding_split
    texts, answers = texts_of(corpus.rows(split)), answers_of(corpus, split)
    examples = one_of_each(texts, answers) if config.examples else []
    if examples or shows_examples(card):
        write_text(card, with_examples(card.read_text(encoding="utf-8"), examples))
    if config.repository is not None:
        print(upload.push(model, config).describe(), flush=True)
