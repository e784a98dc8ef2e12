"""Puts a `Classifier` behind HTTP: refusals with a reason, metrics, and a page to try it."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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

from nlp_transfer.errors import UserError
from nlp_transfer.inference.classifier import Classifier
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.serving.batcher import Batcher, Limits, Metrics, Refused

SHUTDOWN_SECONDS = 30  # for what is in flight
THROWN_AWAY = 16 << 20  # bytes of a body that is too large; then the line is cut
BODY_SECONDS = 20.0  # a body that comes slower than this is given up


Text = Annotated[str, StringConstraints(pattern=r"\S")]
Share = Annotated[float, Described(ge=0, le=1)]


class Question(BaseModel):
    """One text, or several; for a model of text pairs the second text of each."""

    model_config = ConfigDict(extra="forbid")

    text: Text | None = None
    text_pair: Text | None = None
    texts: list[Text] | None = None
    text_pairs: list[Text] | None = None

    def asked(self, limits: Limits) -> tuple[list[str], list[str] | None]:
        """Texts and their pairs.

        Raises:
            Refused: if they do not fit together, or are too many or too long.
        """
        texts, pairs = self._fitting(limits.texts)
        size = sum(map(len, (*texts, *(pairs or ()))))
        if size > limits.characters:
            raise Refused(
                422, f"expected at most {limits.characters} characters a request, found {size}."
            )
        return texts, pairs

    def _fitting(self, most: int) -> tuple[list[str], list[str] | None]:
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
    _add_model(app, classifier)
    _add_watching(app, batcher, metrics)
    page = resources.files("nlp_transfer.serving").joinpath("page.html").read_text("utf-8")

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
    single, several = _shapes(classifier.decoder)
    body = {"application/json": {"schema": Question.model_json_schema()}}
    reasons = {408: "slow body", 413: "body too large", 422: "not understood", 503: "queue full"}

    @app.post(
        "/classify",
        response_model=single | several,
        responses={code: {"description": reason} for code, reason in reasons.items()},
        openapi_extra={"requestBody": {"required": True, "content": body}},
    )
    async def classify(request: Request) -> Response:
        """Answers, in the order of the texts."""
        status = 500
        try:
            content = await _read(request, limits.body)
            began = time.perf_counter()
            question = _understand(content)
            texts, pairs = question.asked(limits)
            _refuse(classifier, texts, pairs)
            rows = await asyncio.wrap_future(batcher.ask(texts, pairs))
            found = [_answer(classifier.decoder, row) for row in rows]
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


def _refuse(classifier: Classifier, texts: list[str], pairs: list[str] | None) -> None:
    try:
        classifier.refuse(texts, pairs)
    except UserError as error:
        raise Refused(422, str(error)) from error


def _add_model(app: FastAPI, classifier: Classifier) -> None:
    decoder = classifier.decoder
    said = {
        "problem": decoder.problem.name,
        "labels": list(decoder.labels),
        "thresholds": dict(decoder.thresholds),
        "paired": classifier.engine.paired,
    }

    @app.get("/model")
    async def model() -> dict[str, Any]:
        """What is asked of a text, and what it may be answered; `paired`: by two texts together."""
        return said


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
    """The body; of one that is too large the rest is thrown away, so that its sender can listen."""
    content, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= most:
                    content += chunk
                elif size > most + THROWN_AWAY:
                    break
    except ClientDisconnect as error:
        raise Refused(400, "the body ended early.") from error
    except TimeoutError as error:
        raise Refused(408, f"the body did not come within {BODY_SECONDS:g} s.") from error
    if size > most:
        raise Refused(413, f"the body has more than the {most} bytes that are read.")
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


def _answer(decoder: Decoder, row: np.ndarray) -> dict[str, Any]:
    prediction = decoder.prediction(row)
    return {name: getattr(prediction, name) for name in _given(decoder)}


def _given(decoder: Decoder) -> tuple[str, ...]:
    more = ("probabilities",) if decoder.problem.has_labels else ()
    return (*decoder.problem.columns, *more)


def _shapes(decoder: Decoder) -> tuple[Any, Any]:
    """One answer and several, with the labels by name."""
    name: Any = Literal[decoder.labels]
    share: Any = Share if decoder.problem.has_labels else float
    kinds = {
        "label": name,
        "labels": list[name],
        "score": share,
        "probabilities": dict[name, Share],
    }
    fields: dict[str, Any] = {given: (kinds[given], ...) for given in _given(decoder)}
    single = create_model("Answer", **fields)
    return single, create_model("Answers", predictions=(list[single], ...))  # type: ignore[valid-type]


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Answer until told to stop (SIGTERM, Ctrl-C); what is in flight is finished first."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn hands the signal on when it has shut down; by then there is nothing left to end.
        signal.signal(number, lambda *_: None)
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=SHUTDOWN_SECONDS
    )
    uvicorn.Server(settings).run(sockets=[listening])
