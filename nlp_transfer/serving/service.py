"""The model that answers, with its queue; a newer one can replace it while requests go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import numpy as np

from nlp_transfer.errors import UserError
from nlp_transfer.inference.classifier import Classifier
from nlp_transfer.serving.batcher import Batcher, Limits, Refused, ServerMetrics

logger = logging.getLogger("nlp_transfer")
CHECKED_TEXTS = ["one", "two texts of different length"]  # that a new model has to answer


class Service:
    """One classifier behind a queue.

    Args:
        load: opens the newest model of the folder; None: it cannot be reloaded.
    """

    def __init__(
        self, classifier: Classifier, limits: Limits, load: Callable[[], Classifier] | None = None
    ) -> None:
        self.limits = limits
        self.metrics = ServerMetrics()
        self.batcher = Batcher(classifier, limits, self.metrics)
        self.metrics.watch(lambda: self.batcher.waiting)
        self._load = load
        self._reloading = asyncio.Lock()

    @property
    def classifier(self) -> Classifier:
        """The model that answers now."""
        return self.batcher.classifier

    def start(self) -> None:
        """Answer from here on."""
        self.batcher.start()

    async def stop(self) -> None:
        """Answer what is queued, then end."""
        await asyncio.to_thread(self.batcher.stop)

    async def reload(self) -> None:
        """Replace the model by the folder's newest, once that has answered the check.

        Until then, and if it fails, the old model answers; requests that it has are finished.

        Raises:
            Refused: the new model cannot be opened, does not answer, or has other labels.
        """
        if self._load is None:
            raise Refused(409, "this server was started without a folder to reload.")
        async with self._reloading:
            try:
                classifier = await asyncio.to_thread(self._load)
                await asyncio.to_thread(check_answers, classifier)
            except (UserError, OSError, ValueError, RuntimeError) as error:
                raise Refused(409, f"the old model stays: {error}") from error
            self._refuse_other_interface(classifier)
            batcher = Batcher(classifier, self.limits, self.metrics)
            batcher.start()
            # Nothing is awaited between the choice of a batcher and its queue (`classify`): what
            # the old one was asked is in its queue by now.
            old, self.batcher = self.batcher, batcher
            await asyncio.to_thread(old.stop)
            logger.warning("The model was reloaded.")

    async def reload_by_signal(self) -> None:
        """The same, for a signal: why it failed is logged."""
        try:
            await self.reload()
        except Refused as error:
            logger.error("Not reloaded: %s", error)

    def _refuse_other_interface(self, classifier: Classifier) -> None:
        old, new = self.classifier.decoder, classifier.decoder
        same = (old.labels, old.problem, self.classifier.engine.paired)
        if same != (new.labels, new.problem, classifier.engine.paired):
            raise Refused(
                409,
                "the old model stays: the new one has other labels or other inputs, which clients "
                "do not expect. Start another server for it.",
            )


def check_answers(classifier: Classifier) -> None:
    """Let a model answer.

    Raises:
        ValueError: its answers are no finite numbers, one row a text.
    """
    pairs = CHECKED_TEXTS if classifier.engine.paired else None
    answers = classifier.probabilities(CHECKED_TEXTS, pairs)
    if len(answers) != len(CHECKED_TEXTS) or not np.isfinite(answers).all():
        raise ValueError("the new model does not answer with finite probabilities")
