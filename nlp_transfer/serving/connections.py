"""Limits the time and the memory that a connection may take.

uvicorn closes a connection that is idle after an answer, but it waits without a limit for the
first request, for the rest of a request's headers, and for a client that does not read its answer.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 20.0  # from the connection, or the last answer, to the end of the next headers
READER_SECONDS = 20.0  # after which a client that does not read is disconnected
HEADER_BYTES = 16 << 10
MAX_CONNECTIONS = 1000
BACKLOG = 512  # connections that are taken at once, before any of them is looked at


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with time limits for headers and readers, and a limit on connections."""

    _header_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock; of connections too many, the one that has been idle longest ends."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS and not self._end_oldest_idle():
            transport.abort()
        else:
            self._watch_headers()

    def _end_oldest_idle(self) -> bool:
        """Make room: of those that are not being answered, the one that has waited longest."""
        oldest = next(iter(self._waiting()), None)
        if oldest is None:
            return False
        del self._waiting()[oldest]
        oldest.transport.abort()
        return True

    def _waiting(self) -> dict[BoundedProtocol, None]:
        """The connections of this server that wait for headers, the longest first."""
        return vars(self.server_state).setdefault("waiting", {})

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        for timer in (self._header_timer, self._reader_timer):
            if timer is not None:
                timer.cancel()
        self._waiting().pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Stop the clock once the headers are complete."""
        super().data_received(data)
        self._watch_headers()

    def on_response_complete(self) -> None:
        """Give the next request as long as the first."""
        super().on_response_complete()
        self._watch_headers()

    def pause_writing(self) -> None:
        """Give a client that does not read some time."""
        super().pause_writing()
        if self._reader_timer is None:
            self._reader_timer = self.loop.call_later(READER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _watch_headers(self) -> None:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
            self._waiting().pop(self, None)
        if not is_answering and self._header_timer is None:
            self._waiting()[self] = None
            self._header_timer = self.loop.call_later(HEADER_SECONDS, self.transport.abort)
