"""Puts a `Classifier` behind HTTP: answers, refusals with a reason, metrics and two pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from html import escape
from http import HTTPStatus
from importlib import resources
from typing import Annotated, Any, Literal

import numpy as np
import prometheus_client as prometheus
from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import Field as Described
from pydantic import create_model

from nlp_transfer.errors import UserError
from nlp_transfer.inference.classifier import Classifier
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.serving.batcher import Limits, Refused
from nlp_transfer.serving.documentation import CONTENT_POLICY, POLICY, documentation
from nlp_transfer.serving.explaining import explain_text
from nlp_transfer.serving.protection import Access, Gate
from nlp_transfer.serving.request_body import ClassifyRequest, parse, read_body
from nlp_transfer.serving.service import Service

Share = Annotated[float, Described(ge=0, le=1)]
REFUSALS = {
    401: "no API key",
    408: "slow body",
    413: "body too large",
    415: "compressed body",
    422: "not understood",
    429: "too many requests",
    503: "queue full",
}
RELOAD_REFUSALS: dict[int | str, dict[str, Any]] = {
    403: {"description": "the server has no API keys"},
    409: {"description": "the new folder does not answer; the old model does"},
}


def make_app(
    classifier: Classifier,
    limits: Limits | None = None,
    title: str = "",
    access: Access | None = None,
    load: Callable[[], Classifier] | None = None,
    explains: bool = False,
) -> FastAPI:
    """The application: `/classify`, `/model`, `/healthz`, `/readyz`, `/metrics`, `/`, `/docs`.

    Args:
        title: the name of the model on its pages.
        access: who may ask; None: everybody, by a known host name.
        load: opens the newest model for `/-/reload`; None: there is none.
        explains: whether `/explain` names the words of an answer, and the page has a switch for it.
    """
    access = access or Access()
    service = Service(classifier, limits or Limits(), load)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    name = title or "nlp-transfer"
    app = FastAPI(title=name, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    _add_classify(app, service)
    _add_model(app, service, name, explains)
    if explains:
        _add_explain(app, service)
    _add_watching(app, service)
    if load is not None:
        _add_reload(app, service, bool(access.keys))
    _add_pages(app, name, bool(classifier.engine.paired), bool(access.keys))
    app.add_exception_handler(HTTPStatus.NOT_FOUND, _describe_paths)
    app.add_exception_handler(HTTPStatus.METHOD_NOT_ALLOWED, _describe_paths)
    if access.origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(access.origins), allow_headers=["*"])
    app.add_middleware(Gate, access=access)
    return app


async def _describe_paths(_: Request, error: Exception) -> Response:
    """The answer to a wrong path, or to a question by GET."""
    status = getattr(error, "status_code", HTTPStatus.NOT_FOUND)
    detail = f"{HTTPStatus(status).phrase}. POST /classify answers; /docs describes every path."
    return JSONResponse({"detail": detail}, status, getattr(error, "headers", None))


def _add_classify(app: FastAPI, service: Service) -> None:
    single, several = _shapes(service.classifier.decoder)
    body = {"application/json": {"schema": ClassifyRequest.model_json_schema()}}
    metrics, limits = service.metrics, service.limits

    @app.post(
        "/classify",
        response_model=single | several,
        responses={code: {"description": reason} for code, reason in REFUSALS.items()},
        openapi_extra={"requestBody": {"required": True, "content": body}},
    )
    async def classify(request: Request) -> Response:
        """Answers, in the order of the texts."""
        status = 500
        try:
            content = await read_body(request, limits.body)
            start = time.perf_counter()
            request_body = parse(content)
            texts, pairs = request_body.parts(limits)
            batcher = service.batcher
            _refuse(batcher.classifier, texts, pairs)
            rows = await asyncio.wrap_future(batcher.submit(texts, pairs))
            answers = [_answer(batcher.classifier.decoder, row) for row in rows]
            status = 200
            metrics.texts.inc(len(texts))
            metrics.seconds.observe(time.perf_counter() - start)
            single_text = request_body.text is not None
            return JSONResponse(answers[0] if single_text else {"predictions": answers})
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


def _add_explain(app: FastAPI, service: Service) -> None:
    body = {"application/json": {"schema": ClassifyRequest.model_json_schema()}}
    limits = service.limits

    @app.post(
        "/explain",
        responses={code: {"description": reason} for code, reason in REFUSALS.items()},
        openapi_extra={"requestBody": {"required": True, "content": body}},
    )
    async def explain(request: Request) -> Response:
        """The words that the answer to one text rests on: what its log-odds lose without each."""
        try:
            request_body = parse(await read_body(request, limits.body))
            texts, pairs = request_body.parts(limits)
            if request_body.text is None:
                raise Refused(422, 'expected "text", found "texts": one text is explained.')
            _refuse(service.batcher.classifier, texts, pairs)
            pair = None if pairs is None else pairs[0]
            return JSONResponse(await explain_text(service.batcher, texts[0], pair, limits))
        except Refused as refused:
            headers = {"Retry-After": "1"} if refused.status == 503 else None
            return JSONResponse({"detail": str(refused)}, refused.status, headers)


def _add_model(app: FastAPI, service: Service, name: str, explains: bool) -> None:
    @app.get("/model")
    async def model() -> dict[str, Any]:
        """The name of the model, its labels and thresholds, and whether it takes pairs."""
        classifier = service.classifier
        return {
            "name": name,
            "problem": classifier.decoder.problem.name,
            "labels": list(classifier.decoder.labels),
            "thresholds": dict(classifier.decoder.thresholds),
            "paired": classifier.engine.paired,
            "explains": explains,
        }


def _add_watching(app: FastAPI, service: Service) -> None:
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthy() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", responses={503: {"description": "not ready"}})
    async def ready() -> JSONResponse:
        """Texts are answered, and there is room in the queue."""
        batcher = service.batcher
        full = batcher.waiting >= batcher.limits.queue
        if full or not batcher.alive:
            return JSONResponse({"detail": "the queue is full" if full else "stopped"}, 503)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", include_in_schema=False)
    async def measured() -> Response:
        text = prometheus.generate_latest(service.metrics.registry)
        return Response(text, media_type=prometheus.CONTENT_TYPE_LATEST)


def _add_reload(app: FastAPI, service: Service, has_keys: bool) -> None:
    @app.post("/-/reload", responses=RELOAD_REFUSALS)
    async def reload() -> JSONResponse:
        """Open the folder again; the old model answers until the new one has."""
        if not has_keys:
            reason = "reloading by HTTP needs --api-key-file; SIGHUP needs no key."
            return JSONResponse({"detail": reason}, 403)
        try:
            await service.reload()
        except Refused as refused:
            return JSONResponse({"detail": str(refused)}, refused.status)
        return JSONResponse({"status": "reloaded"})


def _add_pages(app: FastAPI, name: str, paired: bool, has_keys: bool) -> None:
    page = resources.files("nlp_transfer.serving").joinpath("page.html").read_text("utf-8")

    @app.get("/", include_in_schema=False)
    async def show() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_POLICY})

    @cache
    def html() -> str:  # milliseconds of the thread that answers everybody
        return documentation(app, name, paired, has_keys)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        content = html().replace("URL/", escape(str(request.base_url)))
        return HTMLResponse(content, headers={"Content-Security-Policy": POLICY})


def _answer(decoder: Decoder, row: np.ndarray) -> dict[str, Any]:
    prediction = decoder.prediction(row)
    return {name: getattr(prediction, name) for name in _fields(decoder)}


def _fields(decoder: Decoder) -> tuple[str, ...]:
    more = ("probabilities",) if decoder.problem.has_labels else ()
    return (*decoder.problem.columns, *more)


def _shapes(decoder: Decoder) -> tuple[Any, Any]:
    """The schemas of one answer and of several, with the labels by name."""
    name: Any = Literal[decoder.labels]
    share: Any = Share if decoder.problem.has_labels else float
    kinds = {
        "label": name,
        "labels": list[name],
        "score": share,
        "probabilities": dict[name, Share],
    }
    fields: dict[str, Any] = {field: (kinds[field], ...) for field in _fields(decoder)}
    single = create_model("Answer", **fields)
    return single, create_model("Answers", predictions=(list[single], ...))  # type: ignore[valid-type]
