"""A client of the Hub that repeats failed requests, and one clear error for a refusal."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from huggingface_hub import HfApi, get_token, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import (
    _http,
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from nlp_transfer.errors import ExitCode, UserError

logger = logging.getLogger("nlp_transfer")
DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds before a request is made again
PASSING = (408, 429, 500, 502, 503, 504)
SILENCE = 300.0  # seconds after which a connection counts as cut
MEANING = {
    401: "the Hub does not know this token",
    403: "this token may not do that",
    404: "there is no such thing, or this token may not see it",
}


@dataclass(eq=False)
class Unanswered(Exception):
    """The connection was cut, or the Hub fails: what was done is unknown."""

    what: str
    requested_wait: float
    commit: bool

    def __str__(self) -> str:
        return self.what


class _Client(httpx2.Client):
    """Makes requests again that failed for a passing reason.

    One policy in place of the library's, which covers some requests only and waits for an answer
    forever. A commit is asked for once: whether it was made has to be looked up first.
    """

    def __init__(self, delays: Sequence[float]) -> None:
        hooks: dict[str, list[Callable[..., Any]]] = {"request": [_http.hf_request_event_hook]}
        super().__init__(event_hooks=hooks, follow_redirects=True, timeout=SILENCE)
        self._delays = delays

    def request(self, method: str, url: Any, **options: Any) -> httpx2.Response:
        """The answer to a request, made as often as there are delays, and once more."""
        file, start = None, 0
        if hasattr(options.get("data"), "seek"):
            file = options["content"] = options.pop("data")  # as httpx calls a file nowadays
            start = file.tell()
        if options.get("timeout") is None:  # some calls of the library would wait forever
            options["timeout"] = SILENCE
        what = f"{method} {httpx2.URL(url).path}"
        is_commit = re.match(r"POST /api/models/[^/]+/[^/]+/commit/", what) is not None
        delays = [] if is_commit else list(self._delays)
        while True:
            if file is not None:
                file.seek(start)
            requested_wait = 0.0
            try:
                response = super().request(method, url, **options)
                if response.status_code not in PASSING:
                    return response
                reason, requested_wait = (
                    f"answered {response.status_code}",
                    _requested_wait(response),
                )
            except httpx2.TransportError as error:
                reason = f"was cut off ({type(error).__name__})"
            if not delays:
                raise Unanswered(f"{what} {reason}", requested_wait, is_commit)
            wait(f"{what} {reason}", max(delays.pop(0), requested_wait))


@contextmanager
def asking(repository: str, delays: Sequence[float]) -> Iterator[HfApi]:
    """The Hub's API with repetitions; a refusal is one clear error."""
    if get_token() is None:
        raise refusal(repository, "there is no token; set HF_TOKEN or type hf auth login")
    before = _http._GLOBAL_CLIENT_FACTORY  # which has no getter
    set_client_factory(lambda: _Client(delays))
    bars = not are_progress_bars_disabled()
    if bars and not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield HfApi(library_name="nlp_transfer")
    except UserError:
        raise
    except Exception as error:  # the libraries that upload raise anything
        raise refusal(repository, _reason(error)) from error
    finally:
        set_client_factory(before)
        if bars:
            enable_progress_bars()


def _reason(error: BaseException) -> str:
    """The reason of a failure; never a whole address, which may be signed."""
    while True:
        if isinstance(error, Unanswered):
            return error.what
        if isinstance(error, HfHubHTTPError):
            status = error.response.status_code
            message = error.server_message or "no reason given"
            path = error.response.request.url.path
            return f"{path} answered {status}: {MEANING.get(status, 'refused')} ({message})"
        if error.__cause__ is None:
            return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        error = error.__cause__


def refusal(repository: str, reason: str) -> UserError:
    """Why something is not on the Hub."""
    return UserError(ExitCode.HUB, f"{repository} on the Hub: {reason.rstrip('.')}.")


def _requested_wait(response: httpx2.Response) -> float:
    """Seconds to wait that the Hub asks for, by either of two headers."""
    after = response.headers.get("retry-after", "")
    if after.isdigit():
        return float(after)
    window = re.search(r"\bt=(\d+)", response.headers.get("ratelimit", ""))
    return float(window[1]) if window and response.status_code == 429 else 0.0


def wait(reason: str, seconds: float) -> None:
    """Say why, and sleep."""
    logger.info("the Hub: %s; again in %g s", reason, seconds)
    time.sleep(seconds)
