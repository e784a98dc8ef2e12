"""Checks whether the Hub can be reached, so that no request is repeated without a network."""

from __future__ import annotations

import sys
from pathlib import Path

from nlp_transfer.errors import ExitCode, UserError

TIMEOUT = 5.0  # seconds

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


def unread(url: str, reason: str, key: str | None = None) -> UserError:
    """The error for a URL that cannot be read."""
    name = url if key is None else f"{key}={url!r}"
    return UserError(
        ExitCode.DATA,
        f"{name} cannot be read: {reason}. Check the address and the network, or copy it here and "
        "name the file.",
    )


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
