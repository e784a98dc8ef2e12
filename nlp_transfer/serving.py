"""Puts a `Classifier` behind HTTP: what is queued together runs together."""

from __future__ import annotations

import asyncio
import queue
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any, Literal

import numpy as np
import prometheus_client as prometheus
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, create_model
from pydantic import Field as Described
from starlette.requests import ClientDisconnect

from nlp_transfer.classifier import Classifier
from nlp_transfer.inputs import CPU_TOKENS

SHUTDOWN_SECONDS = 30  # for what is in flight
BODY_SECONDS = 20.0  # a body that comes slower than this is given up


@dataclass(frozen=True)
class Limits:
    """What one request may ask, and how much may wait."""

    body: int = 1 << 20  # bytes
    texts: int = 64  # of one request
    queue: int = 1024  # texts that wait


class Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """One request in the queue."""

    texts: list[str]
    pairs: list[str] | None
    answer: Future[np.ndarray]  # probabilities, float64 [texts, labels]


class Batcher:
    """One thread that answers; it takes all that is queued, up to a forward pass, and never waits.

    A model that answers every text alone gains nothing from company: it takes request by request.
    """

    def __init__(self, classifier: Classifier, limits: Limits, metrics: Metrics) -> None:
        self.classifier = classifier
        self.limits = limits
        self.metrics = metrics
        self.waiting = 0  # texts
        self._queue: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)

    def start(self) -> None:
        """From here on, what is asked is answered."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what is queued, then end."""
        self._queue.put(None)
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def ask(self, texts: list[str], pairs: list[str] | None) -> Future[np.ndarray]:
        """Queue a request.

        Raises:
            Refused: if too much waits already.
        """
        with self._counting:
            if self.waiting + len(texts) > self.limits.queue:
                raise Refused(
                    503, f"{self.waiting} texts are waiting, at most {self.limits.queue} may."
                )
            self.waiting += len(texts)
        asked = Asked(texts, pairs, Future())
        self._queue.put(asked)
        return asked.answer

    def _work(self) -> None:
        going = True
        while going:
            batch, going = self._drain()
            if batch:
                self._answer(batch)

    def _drain(self) -> tuple[list[Asked], bool]:
        """Wait for one request, take what else is there; False where the end was among it."""
        first = self._queue.get()
        if first is None:
            return [], False
        batch, size = [first], _size(first)
        while size < CPU_TOKENS and not self.classifier.engine.alone:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return batch, False
            batch.append(more)
            size += _size(more)
        return batch, True

    def _answer(self, batch: list[Asked]) -> None:
        # Texts alone and text pairs are different inputs.
        for paired in (False, True):
            some = [asked for asked in batch if (asked.pairs is not None) == paired]
            with self._counting:
                self.waiting -= sum(len(asked.texts) for asked in some)
            some = [asked for asked in some if asked.answer.set_running_or_notify_cancel()]
            if not some:
                continue
            texts = [text for asked in some for text in asked.texts]
            pairs = [pair for asked in some for pair in asked.pairs or ()] if paired else None
            try:
                answers = self.classifier.probabilities(texts, pairs)
            except Exception as error:  # noqa: BLE001 (the thread outlives whatever one batch does)
                for asked in some:
                    asked.answer.set_exception(error)
            else:
                start = 0
                for asked in some:
                    asked.answer.set_result(answers[start : start + len(asked.texts)])
                    start += len(asked.texts)
                self.metrics.together.observe(len(texts))


class Metrics:
    """What Prometheus may know; nothing of the texts."""

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

    def watch(self, batcher: Batcher) -> None:
        """Tell how many texts wait."""
        waiting = prometheus.Gauge("classify_waiting", "Texts that wait.", registry=self.registry)
        waiting.set_function(lambda: batcher.waiting)


Text = Annotated[str, StringConstraints(pattern=r"\S")]


class Question(BaseModel):
    """One text, or several; for a model of text pairs the second text of each."""

    model_config = ConfigDict(extra="forbid")

    text: Text | None = None
    text_pair: Text | None = None
    texts: list[Text] | None = None
    text_pairs: list[Text] | None = None

    def asked(self, most: int) -> tuple[list[str], list[str] | None]:
        """Texts and their pairs.

        Raises:
            Refused: if they do not fit together.
        """
        if (self.text is None) == (self.texts is None):
            raise Refused(422, 'expected either "text" or "texts".')
        if self.text is not None:
            if self.text_pairs is not None:
                raise Refused(422, 'to "text" belongs "text_pair", not "text_pairs".')
            return [self.text], None if self.text_pair is None else [self.text_pair]
        texts = self.texts or []
        if not 1 <= len(texts) <= most:
            raise Refused(422, f"expected 1 to {most} texts, found {len(texts)}.")
        if self.text_pair is not None:
            raise Refused(422, 'to "texts" belongs "text_pairs", not "text_pair".')
        if self.text_pairs is not None and len(self.text_pairs) != len(texts):
            raise Refused(
                422, f"expected as many text_pairs as texts, {len(texts)}: {len(self.text_pairs)}."
            )
        return texts, self.text_pairs


def make_app(classifier: Classifier, limits: Limits | None = None, title: str = "") -> FastAPI:
    """The application: `/classify`, `/healthz`, `/readyz`, `/metrics`, and a page at `/`."""
    limits = limits or Limits()
    metrics = Metrics()
    batcher = Batcher(classifier, limits, metrics)
    metrics.watch(batcher)

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await asyncio.to_thread(batcher.stop)

    app = FastAPI(title=title or "nlp-transfer", lifespan=living)
    _add_classify(app, classifier, batcher, limits, metrics)
    _add_watching(app, batcher, metrics)
    page = resources.files("nlp_transfer").joinpath("page.html").read_text("utf-8")

    @app.get("/", include_in_schema=False)
    async def show() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_POLICY})

    return app


# The page needs nothing from elsewhere, and may send a text nowhere else.
CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)


def _add_classify(
    app: FastAPI, classifier: Classifier, batcher: Batcher, limits: Limits, metrics: Metrics
) -> None:
    single, several = _shapes(classifier.labels)
    body = {"application/json": {"schema": Question.model_json_schema()}}
    reasons = {408: "slow body", 413: "body too large", 422: "not understood", 503: "queue full"}

    @app.post(
        "/classify",
        response_model=single | several,
        responses={code: {"description": reason} for code, reason in reasons.items()},
        openapi_extra={"requestBody": {"required": True, "content": body}},
    )
    async def classify(request: Request) -> Response:
        """Labels with their probabilities, in the order of the texts."""
        status = 500
        try:
            content = await _read(request, limits.body)
            began = time.perf_counter()
            question = _understand(content)
            texts, pairs = question.asked(limits.texts)
            rows = await asyncio.wrap_future(batcher.ask(texts, pairs))
            found = [_answer(classifier, row) for row in rows]
            status = 200
            metrics.texts.inc(len(texts))
            metrics.seconds.observe(time.perf_counter() - began)
            return JSONResponse(found[0] if question.text is not None else {"predictions": found})
        except Refused as refused:
            status = refused.status
            headers = {"Retry-After": "1"} if status == 503 else None
            return JSONResponse({"detail": str(refused)}, status, headers)
        finally:
            metrics.requests.labels(str(status)).inc()


def _add_watching(app: FastAPI, batcher: Batcher, metrics: Metrics) -> None:
    @app.get("/healthz")
    async def healthy() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @app.get("/readyz", responses={503: {"description": "not ready"}})
    async def ready() -> JSONResponse:
        """Texts are answered, and there is room in the queue."""
        full = batcher.waiting >= batcher.limits.queue
        if full or not batcher.alive:
            return JSONResponse({"detail": "the queue is full" if full else "stopped"}, 503)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", include_in_schema=False)
    async def measured() -> Response:
        text = prometheus.generate_latest(metrics.registry)
        return Response(text, media_type=prometheus.CONTENT_TYPE_LATEST)


async def _read(request: Request, most: int) -> bytes:
    """The body, given up as soon as it is too large or too slow."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise Refused(413, f"the body has {declared} bytes, at most {most} are read.")
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > most:
                    raise Refused(413, f"the body has more than the {most} bytes that are read.")
    except ClientDisconnect as error:
        raise Refused(400, "the body ended early.") from error
    except TimeoutError as error:
        raise Refused(408, f"the body did not come within {BODY_SECONDS:g} s.") from error
    return bytes(content)


def _understand(content: bytes) -> Question:
    try:
        # By pydantic's own parser: it takes no NaN, half surrogates or endless nesting.
        return Question.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        blank = first["type"] == "string_pattern_mismatch"
        reason = f"{where}: {'expected a text, found none' if blank else first['msg']}"
        raise Refused(422, reason[:300]) from error


def _answer(classifier: Classifier, row: np.ndarray) -> dict[str, Any]:
    prediction = classifier.prediction(row)
    return {
        "label": prediction.label,
        "score": prediction.score,
        "probabilities": prediction.probabilities,
    }


def _shapes(labels: tuple[str, ...]) -> tuple[Any, Any]:
    """One answer and several, with the labels by name."""
    name: Any = Literal[labels]
    single = create_model(
        "Answer",
        label=(name, ...),
        score=(float, Described(ge=0, le=1)),
        probabilities=(dict[name, float], ...),
    )
    return single, create_model("Answers", predictions=(list[single], ...))  # type: ignore[valid-type]


def _size(asked: Asked) -> int:
    """Roughly the tokens of a request: English has four characters a token."""
    every: Sequence[str] = (*asked.texts, *(asked.pairs or ()))
    return sum(len(text) // 4 + 2 for text in every)


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Answer until told to stop (SIGTERM, Ctrl-C); what is in flight is finished first."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn hands the signal on when it has shut down; by then there is nothing left to end.
        signal.signal(number, lambda *_: None)
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=SHUTDOWN_SECONDS
    )
    uvicorn.Server(settings).run(sockets=[listening])
