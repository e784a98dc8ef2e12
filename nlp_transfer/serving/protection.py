"""Decides which requests are answered: host names, API keys, and how many a client may make."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nlp_transfer.errors import ExitCode, UserError

OPEN_PATHS = ("/", "/healthz", "/readyz")  # answered without a key: they hold nothing of the model
PROBES = ("/healthz", "/readyz")  # asked by orchestrators, under any host name
SHORTEST_KEY = 16  # characters
KNOWN_CLIENTS = 10_000  # whose requests are counted; then those that are idle are forgotten
REQUEST_ID = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True)
class Access:
    """Who may ask a server."""

    keys: tuple[bytes, ...] = ()  # SHA-256 of each API key; empty: no key is needed
    hosts: tuple[str, ...] = ()  # host names beside localhost, this machine's and IP addresses
    origins: tuple[str, ...] = ()  # whose pages may ask (CORS)
    requests_per_minute: int | None = None  # of one client
    own_pages_only: bool = False  # what changes something comes from a page of this server
    log: TextIO | None = None  # one line of JSON for each request; never a text or a key


def read_keys(path: Path) -> tuple[bytes, ...]:
    """The digests of the API keys in a file, one key a line.

    Raises:
        UserError: if the file cannot be read, holds no key or one that is easily guessed.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise UserError(
            ExitCode.CONFIG, f"--api-key-file {path} cannot be read ({reason})."
        ) from error
    keys = [line.strip() for line in lines if line.strip()]
    if not keys or min(map(len, keys)) < SHORTEST_KEY:
        actual = "no key" if not keys else f"a key of {min(map(len, keys))} characters"
        raise UserError(
            ExitCode.CONFIG,
            f"--api-key-file {path}: expected one key a line of at least {SHORTEST_KEY} "
            f"characters, found {actual}. `openssl rand -hex 32` makes one.",
        )
    return tuple(hashlib.sha256(key.encode()).digest() for key in keys)


class Gate:
    """ASGI middleware that refuses what `Access` does not allow, and logs every request."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access
        self._hosts = {"localhost", socket.gethostname().lower(), *map(str.lower, access.hosts)}
        self._tokens: dict[str, tuple[float, float]] = {}  # by client: requests left, and when

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with a reason."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, start = Headers(scope=scope), time.perf_counter()
        client_id = headers.get("x-request-id", "")
        identity = client_id if REQUEST_ID.fullmatch(client_id) else uuid.uuid4().hex
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = identity
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            await (refusal or self.app)(scope, receive, answer)
        finally:
            self._log(scope, identity, status, start)

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in PROBES and not self._is_known(headers.get("host", "")):
            reason = "this host name is not served; see --allowed-host."
            return JSONResponse({"detail": reason}, 421)
        changes = scope["method"] not in ("GET", "HEAD")
        if self.access.own_pages_only and changes and _is_foreign(headers):
            return JSONResponse({"detail": "this request is from a page of another site."}, 403)
        if scope["method"] == "OPTIONS" and self.access.origins:
            return None  # a preflight carries no key
        if self.access.keys and path not in OPEN_PATHS and not self._has_key(headers):
            reason = "expected an API key: Authorization: Bearer KEY."
            return JSONResponse({"detail": reason}, 401, {"WWW-Authenticate": "Bearer"})
        wait = 0.0 if path in PROBES else self._seconds_to_wait((scope.get("client") or ("",))[0])
        if wait > 0:
            reason = f"more than {self.access.requests_per_minute} requests a minute."
            return JSONResponse({"detail": reason}, 429, {"Retry-After": str(int(wait) + 1)})
        return None

    def _is_known(self, host: str) -> bool:
        """Whether a page of another site cannot have made the browser ask this host."""
        if "*" in self._hosts:
            return True
        name = re.sub(r":\d*$", "", host.strip().lower())
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name in self._hosts
        return True

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            key = headers.get("x-api-key", "")
        digest = hashlib.sha256(key.strip().encode("utf-8", "replace")).digest()
        # Every key is compared, so that the time does not tell which one is nearly right.
        return sum(hmac.compare_digest(digest, other) for other in self.access.keys) > 0

    def _seconds_to_wait(self, client: str) -> float:
        """0 where the client may ask now; a token bucket that fills evenly over a minute."""
        most, now = self.access.requests_per_minute, time.monotonic()
        if most is None:
            return 0.0
        tokens, last = self._tokens.get(client, (float(most), now))
        tokens = min(tokens + (now - last) * most / 60, float(most))
        if len(self._tokens) > KNOWN_CLIENTS:
            self._tokens = {c: t for c, t in self._tokens.items() if now - t[1] < 60}
        if tokens < 1:
            self._tokens[client] = (tokens, now)
            return (1 - tokens) * 60 / most
        self._tokens[client] = (tokens - 1, now)
        return 0.0

    def _log(self, scope: Scope, identity: str, status: int, start: float) -> None:
        if self.access.log is None:
            return
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "id": identity,
            "client": (scope.get("client") or ("",))[0],
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(1000 * (time.perf_counter() - start), 1),
        }
        print(json.dumps(entry), file=self.access.log, flush=True)


def _is_foreign(headers: Headers) -> bool:
    """Whether a page of another site made the browser send a request."""
    origin, host = headers.get("origin"), headers.get("host", "")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    return origin is not None and origin not in (f"http://{host}", f"https://{host}")
