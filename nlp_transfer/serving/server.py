"""Runs the application until it is stopped; SIGHUP reloads the model."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import uvicorn
from fastapi import FastAPI

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.serving.connections import BACKLOG, HEADER_BYTES, BoundedProtocol

SHUTDOWN_SECONDS = 30  # for requests that have begun


class _Server(uvicorn.Server):
    """A server that reloads its model, if it has one, on SIGHUP."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen for connections, then for the signal."""
        await super().startup(sockets=sockets)
        service = getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]
        if service is None or not hasattr(signal, "SIGHUP"):  # no model, or Windows
            return
        tasks: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()

        def reload() -> None:
            task = loop.create_task(service.reload_by_signal())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections.

    Raises:
        UserError: if the address cannot be used.
    """
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        code = getattr(error, "errno", None)
        reason = os.strerror(code) if code is not None and code > 0 else str(error)
        raise UserError(
            ExitCode.MACHINE,
            f"{host}:{port} cannot be opened for listening: {reason}. Name another address or port "
            "by --host and --port.",
        ) from error


def serve(app: FastAPI, listening: socket.socket, root_path: str = "") -> None:
    """Answer until SIGTERM or Ctrl-C; requests that have begun are finished first.

    Args:
        root_path: the prefix of every path that a proxy in front takes off.
    """
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
    server = _Server(settings)

    def end(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        # For a signal that comes before uvicorn handles signals. It raises those that it has
        # handled again after the shutdown, when there is nothing to end.
        signal.signal(number, end)
    server.run(sockets=[listening])
