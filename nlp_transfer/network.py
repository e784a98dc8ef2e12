"""Reads from the Hub and other servers without waiting minutes for one that does not answer."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from nlp_transfer.errors import ExitCode, UserError

TIMEOUT = 5.0  # seconds that the Hub may take to answer
SILENCE = 6.0  # seconds that a server may take to connect, or to send a piece

_reasons: dict[str, str | None] = {}  # of each endpoint that was asked; None: it answered


def use_cache_if_unreachable() -> str | None:
    """Let this process use only what is cached, if the Hub does not answer within seconds.

    The libraries repeat every request for half a minute before they look into their caches.

    Returns:
        Why the Hub cannot be reached; None: it can, or HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:  # set by the user, or below
        return _reasons.get(constants.ENDPOINT)
    if constants.ENDPOINT not in _reasons:
        _reasons[constants.ENDPOINT] = _why_unreachable(constants.ENDPOINT)
    reason = _reasons[constants.ENDPOINT]
    if reason is not None:
        constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True
    return reason


def _why_unreachable(endpoint: str) -> str | None:
    from httpx2 import HTTPError
    from huggingface_hub.utils import get_session

    try:
        get_session().head(endpoint, timeout=TIMEOUT)  # whatever the answer is, it is one
    except HTTPError as error:
        return str(error) or type(error).__name__
    return None


def refuse_unreachable_checkpoint(name: str, revision: str | None) -> None:
    """Stop before torch is imported, where a checkpoint can be had from nowhere.

    Raises:
        UserError: if it is no name of the Hub, or the Hub cannot be reached and the checkpoint is
            not in the cache.
    """
    if ":" in name or Path(name).exists():
        return  # embedded, or a folder
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"checkpoint.name={name!r} cannot be loaded: there is no such folder (seen from "
            f"{Path.cwd()}), and it is not a name that the Hub can have.",
        ) from None
    cached = isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str)
    reason = None if cached else use_cache_if_unreachable()
    if reason is not None:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"checkpoint.name={name!r} cannot be loaded: the Hub cannot be reached ({reason}), and "
            "it is not in the cache. Check the network, or name a local folder.",
        )


@contextmanager
def fetched(url: str, key: str) -> Iterator[list[Path]]:
    """Copies of the files that a URL names, until the context is left.

    Args:
        url: one that fsspec can read; it may be a glob.
        key: what a person calls it, for errors.

    Raises:
        UserError: they cannot be read.
    """
    import fsspec

    with tempfile.TemporaryDirectory() as temporary:
        options = {"cache_storage": temporary, "same_names": True}
        try:
            patience = _patience(url)
            files = fsspec.open_local(f"simplecache::{url}", simplecache=options, **patience)
        except Exception as error:  # noqa: BLE001 (each file system has errors of its own)
            raise UserError(
                ExitCode.DATA,
                f"{key}={url!r} cannot be read: {_why_unread(error)}. Check the address and the "
                "network, or copy it here and name the file.",
            ) from error
        copies = map(Path, [files] if isinstance(files, str) else files)
        yield sorted(copy.rename(copy.with_name(copy.name.partition("?")[0])) for copy in copies)


def _patience(url: str) -> dict[str, dict[str, Any]]:
    """Options of the file system of a URL, so that a server that is silent is no wait of minutes.

    Raises:
        OSError: it is on the Hub, which does not answer.
    """
    protocol = url.partition("://")[0].rpartition("::")[2]
    if protocol == "hf":
        reason = use_cache_if_unreachable()
        if reason is not None:
            raise OSError(f"the Hub cannot be reached ({reason})")
    if protocol not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout

    silence = ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
    return {protocol: {"client_kwargs": {"timeout": silence}}}


def _why_unread(error: Exception) -> str:
    """What a file system says, in words."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None:
        status = getattr(cause, "status", None)
        if status != HTTPStatus.NOT_FOUND:
            error = cause if isinstance(cause, Exception) else error
    if isinstance(error, IndexError | FileNotFoundError):
        return "there is no such file"
    if isinstance(error, TimeoutError):
        return f"the server was silent for {SILENCE:.0f} seconds"
    return str(error).rstrip(".") or type(error).__name__
