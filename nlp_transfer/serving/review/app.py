"""The review over HTTP: one page, and a few requests that say what to show next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nlp_transfer.serving.batcher import Refused
from nlp_transfer.serving.documentation import CONTENT_POLICY
from nlp_transfer.serving.protection import Access, Gate
from nlp_transfer.serving.request_body import read_body
from nlp_transfer.serving.review.session import Mark, OutOfDate, ReviewSession

BODY = 1 << 16  # bytes
ROW = Field(ge=0, lt=1 << 53)
FRESH = {"Cache-Control": "no-store"}


class Seen(BaseModel):
    """What a page knows: it is refused where something was answered since."""

    model_config = ConfigDict(extra="forbid", strict=True)

    seen: Annotated[int, ROW]


class AnswerRequest(Seen):
    """The labels of a row; none: it is skipped."""

    row: Annotated[int, ROW]
    labels: list[str] | None


def make_review_app(session: ReviewSession) -> FastAPI:
    """The application: `/`, `/review`, `/answer`, `/undo`, `/again`.

    Every request that changes something is answered when the change is on the disk, with the row
    that is shown next.
    """
    changed = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        changed.set()  # answers of a session that was killed
        writer = asyncio.create_task(_write_behind(session, changed))
        yield
        writer.cancel()

    app = FastAPI(
        title=session.table.file.name,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    _add_page(app, session)
    _add_changes(app, session, changed)
    app.add_middleware(Gate, access=Access(own_pages_only=True))
    return app


async def _write_behind(session: ReviewSession, changed: asyncio.Event) -> None:
    """The table follows the answers, as fast as it can be written."""
    while True:
        await changed.wait()
        changed.clear()
        await asyncio.to_thread(session.write)


def _add_page(app: FastAPI, session: ReviewSession) -> None:
    page = resources.files("nlp_transfer.serving.review").joinpath("page.html").read_text("utf-8")
    policy = f"{CONTENT_POLICY}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

    @app.get("/")
    async def show() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy, **FRESH})

    @app.get("/review")
    async def review() -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(session.state), headers=FRESH)


def _add_changes(app: FastAPI, session: ReviewSession, changed: asyncio.Event) -> None:
    def add(path: str, understood: Callable[[bytes], Callable[[], None]]) -> None:
        @app.post(path)
        async def change(request: Request) -> JSONResponse:
            try:
                kind = request.headers.get("content-type", "").partition(";")[0].strip()
                if kind != "application/json":
                    raise Refused(415, "expected Content-Type: application/json.")
                await asyncio.to_thread(understood(await read_body(request, BODY)))
            except Refused as refused:
                return JSONResponse({"detail": str(refused)}, refused.status)
            except OutOfDate:
                reason = "something was answered in another window; look at the row again."
                state = await asyncio.to_thread(session.state)
                return JSONResponse({"detail": reason, "review": state}, 409)
            except OSError as error:
                reason = f"the answer is not saved ({error.strerror or error})."
                return JSONResponse({"detail": reason}, 507)
            changed.set()
            return JSONResponse(await asyncio.to_thread(session.state), headers=FRESH)

    def answer(body: bytes) -> Callable[[], None]:
        request = _parsed(AnswerRequest, body)
        return partial(session.mark, request.row, request.seen, _mark(session, request))

    add("/answer", answer)
    add("/undo", lambda body: partial(session.undo, _parsed(Seen, body).seen))
    add("/again", lambda body: partial(session.show_skipped, _parsed(Seen, body).seen))


def _parsed(kind: type[Any], body: bytes) -> Any:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise Refused(422, f"{where}: {first['msg']}"[:300]) from error


def _mark(session: ReviewSession, asked: AnswerRequest) -> Mark:
    """What an answer means.

    Raises:
        Refused: there is no such row or label, or the number of labels does not fit.
    """
    labels, rows = session.table.labels, len(session.marks)
    if asked.row >= rows:
        raise Refused(422, f"row: expected 0 to {rows - 1}, found {asked.row}.")
    if asked.labels is None:
        return Mark(skipped=True)
    unknown = [name for name in asked.labels if name not in labels.names]
    if unknown:
        raise Refused(422, f"labels: {unknown[0][:80]!r} is no label of this review.")
    if not labels.several and len(asked.labels) != 1:
        raise Refused(422, f"labels: expected one, found {len(asked.labels)}.")
    return Mark(tuple(name for name in labels.names if name in asked.labels))
