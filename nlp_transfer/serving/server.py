"""Runs the application until it is stopped; SIGHUP reloads the model."""

from __future__ import annotations

import asyncio
import signal
import socket

import uvicorn
from fastapi import FastAPI

from nlp_transfer.serving.connections import BACKLOG, HEADER_BYTES, BoundedProtocol

SHUTDOWN_SECONDS = 30  # for requests that have begun


class _Server(uvicorn.Server):
    """A server that reloads its model on SIGHUP, where there is such a signal."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen for connections, then for the signal."""
        await super().startup(sockets=sockets)
        if not hasattr(signal, "SIGHUP"):  # Windows
            return
        tasks: set[asyncio.Task[None]] = set()
        loop, service = asyncio.get_running_loop(), self.config.app.state.service  # type: ignore[union-attr]

        def reload() -> None:
            task = loop.create_task(service.reload_by_signal())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)


def serve(app: FastAPI, listening: socket.socket, root_path: str = "") -> None:
    """Answer until SIGTERM or Ctrl-C; requests that have begun are finished first.

    Args:
        root_path: the prefix of every path that a proxy in front takes off.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when it has shut down; by then there is nothing to end.
        signal.signal(number, lambda *_: None)
    settings = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        backlog=BACKLOG,
        root_path=root_path,
        log_level="warning",
        access_log=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    _Server(settings).run(sockets=[listening])
