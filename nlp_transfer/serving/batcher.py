"""Batches the requests in a queue: one thread takes all there are and never waits for more."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import prometheus_client as prometheus

from nlp_transfer.inference.classifier import Classifier
from nlp_transfer.tokenization.model_inputs import CPU_TOKENS


@dataclass(frozen=True)
class Limits:
    """What one request may ask, and how much may wait."""

    body: int = 1 << 20  # bytes
    texts: int = 64  # of one request
    characters: int = 100_000  # of one request
    queue: int = 1024  # texts that wait; long ones count once for every `LONG` characters


LONG = 2000


class Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class QueuedRequest:
    """One request in the queue."""

    texts: list[str]
    pairs: list[str] | None
    answer: Future[np.ndarray]  # probabilities, float64 [texts, labels]

    @property
    def every(self) -> Sequence[str]:
        """All texts, the second ones too."""
        return (*self.texts, *(self.pairs or ()))

    @property
    def load(self) -> int:
        """As how many texts it waits: long ones may be read in many windows."""
        return max(len(self.texts), sum(map(len, self.every)) // LONG)

    @property
    def tokens(self) -> int:
        """Roughly: English has four characters a token."""
        return sum(len(text) // 4 + 2 for text in self.every)


class Batcher:
    """One thread that answers; it takes all that is queued, up to a forward pass, and never waits.

    A model that answers every text alone gains nothing from batches: it takes one at a time.
    """

    def __init__(self, classifier: Classifier, limits: Limits, metrics: ServerMetrics) -> None:
        self.classifier = classifier
        self.limits = limits
        self.metrics = metrics
        self.waiting = 0  # texts, long ones several times
        self._queue: queue.SimpleQueue[QueuedRequest | None] = queue.SimpleQueue()
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)

    def start(self) -> None:
        """Answer from here on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what is queued, then end."""
        self._queue.put(None)
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def submit(self, texts: list[str], pairs: list[str] | None) -> Future[np.ndarray]:
        """Queue a request.

        Raises:
            Refused: if too much waits already.
        """
        request = QueuedRequest(texts, pairs, Future())
        with self._counting:
            if self.waiting + request.load > self.limits.queue:
                raise Refused(
                    503, f"{self.waiting} texts are waiting, at most {self.limits.queue} may."
                )
            self.waiting += request.load
        self._queue.put(request)
        return request.answer

    def _work(self) -> None:
        going = True
        while going:
            batch, going = self._drain()
            if batch:
                self._answer(batch)

    def _drain(self) -> tuple[list[QueuedRequest], bool]:
        """Wait for one request, take what else is there; False where the end was among it."""
        first = self._queue.get()
        if first is None:
            return [], False
        batch, size = [first], first.tokens
        while size < CPU_TOKENS and not self.classifier.engine.alone:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return batch, False
            batch.append(more)
            size += more.tokens
        return batch, True

    def _answer(self, batch: list[QueuedRequest]) -> None:
        # Texts alone and text pairs are different inputs.
        for paired in (False, True):
            some = [request for request in batch if (request.pairs is not None) == paired]
            with self._counting:
                self.waiting -= sum(request.load for request in some)
            some = [request for request in some if request.answer.set_running_or_notify_cancel()]
            if not some:
                continue
            texts = [text for request in some for text in request.texts]
            pairs = [pair for request in some for pair in request.pairs or ()] if paired else None
            try:
                answers = self.classifier.probabilities(texts, pairs)
            except Exception as error:  # noqa: BLE001 (the thread outlives whatever one batch does)
                for request in some:
                    request.answer.set_exception(error)
            else:
                start = 0
                for request in some:
                    request.answer.set_result(answers[start : start + len(request.texts)])
                    start += len(request.texts)
                self.metrics.together.observe(len(texts))


class ServerMetrics:
    """Metrics for Prometheus; nothing of the texts."""

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "classify_requests", "Requests by status.", ["status"], registry=self.registry
        )
        self.texts = prometheus.Counter("classify_texts", "Texts answered.", registry=self.registry)
        self.seconds = prometheus.Histogram(
            "classify_seconds",
            "From the whole request to its answer.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.together = prometheus.Histogram(
            "classify_texts_together",
            "Texts that ran together.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=self.registry,
        )

    def watch(self, count: Callable[[], int]) -> None:
        """Report how many texts wait."""
        waiting = prometheus.Gauge("classify_waiting", "Texts that wait.", registry=self.registry)
        waiting.set_function(count)
