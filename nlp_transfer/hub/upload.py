"""Uploads an exported folder in one commit.

Whatever fails, the folder stays as it is and the same call finishes: what the Hub already has, by
hash, is not sent again. The token comes from HF_TOKEN or `hf auth login`, and goes nowhere else.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from nlp_transfer.config.sections.delivery import HubConfig
from nlp_transfer.errors import UserError
from nlp_transfer.hub.client import DELAYS, Unanswered, asking, refusal, wait
from nlp_transfer.hub.files import ModelFile, _matches, model_files
from nlp_transfer.inference.engines import check_exported, exported_files
from nlp_transfer.reporting.card.examples import shows_examples

logger = logging.getLogger("nlp_transfer")
MAIN = "main"


@dataclass(frozen=True)
class Pushed:
    """What is on the Hub now."""

    url: str
    revision: str  # the commit, or the pull request
    new: tuple[str, ...]  # the files that the Hub did not have

    def describe(self) -> str:
        """One line for a person."""
        what = f"{len(self.new)} files are new" if self.new else "everything was there already"
        return f"On the Hub: {self.url} ({self.revision}); {what}, all hashes are equal"


def check(hub: HubConfig, delays: Sequence[float] = DELAYS) -> None:
    """Refuse an upload that would fail, before there is anything to upload.

    Raises:
        UserError: there is no token, it may not write there, or the repository does not fit.
    """
    with asking(_name(hub), delays) as api:
        try:
            api.auth_check(_name(hub), write=not hub.pull_request)
            _refuse_public(api, hub)
        except RepositoryNotFoundError as error:
            if hub.pull_request:
                raise refusal(
                    _name(hub), "a pull request needs a repository that exists"
                ) from error
            _refuse_creating(api.whoami(), hub)


def plan(folder: Path, hub: HubConfig) -> str:
    """What `push` would upload, with sizes; makes no request.

    Raises:
        UserError: if it would be refused here.
    """
    files = _checked_files(folder, hub)
    sizes = {name: file.path.stat().st_size for name, file in files.items()}
    lines = [f"  {size / 1e6:>9,.2f} MB  {name}" for name, size in sizes.items()]
    total = f"{len(files)} files, {sum(sizes.values()) / 1e6:,.2f} MB"
    where = f"{_name(hub)} ({hub.revision or MAIN})"
    return "\n".join([f"Nothing was uploaded. {where} would get {total}:", *lines])


def push(folder: Path, hub: HubConfig, delays: Sequence[float] = DELAYS) -> Pushed:
    """Upload an exported folder as one commit, then read the hashes back.

    Args:
        delays: seconds before the first, second … repetition of a request.

    Raises:
        UserError: it is not on the Hub as it is here; nothing here has changed.
    """
    files = _checked_files(folder, hub)
    try:
        with asking(_name(hub), delays) as api:
            return _push(api, hub, files, delays)
    except UserError as error:
        after = f"The model is complete in {folder}: the same command uploads what is missing."
        raise UserError(error.code, f"{error} {after}") from error


def _checked_files(folder: Path, hub: HubConfig) -> dict[str, ModelFile]:
    files = model_files(folder)
    check_exported(folder)
    if shows_examples(folder / "README.md") and not hub.examples:
        raise refusal(
            _name(hub),
            "the card shows rows of the data without permission to publish them; add "
            "hub.examples=true (push: --examples), or take them off the card",
        )
    return files


def _push(
    api: HfApi, hub: HubConfig, files: dict[str, ModelFile], delays: Sequence[float]
) -> Pushed:
    if not hub.pull_request:
        api.create_repo(_name(hub), private=hub.private or None, exist_ok=True)
    _refuse_public(api, hub)
    if hub.revision is not None:
        api.create_branch(_name(hub), branch=hub.revision, exist_ok=True)
    _refuse_tag(api, hub, files)
    revision, new = _commit(api, hub, files, delays)
    there = _there(api, hub, revision)
    different = [name for name, file in files.items() if not file.is_there(there.get(name))]
    if different:
        raise refusal(
            _name(hub), f"the uploaded files differ from the local ones: {', '.join(different)}"
        )
    others = sorted({*there} - {*files, ".gitattributes"})
    if others:
        logger.info(
            "%s also holds files of an earlier upload: %s", hub.repository, ", ".join(others)
        )
    if hub.tag is not None:
        api.create_tag(_name(hub), tag=hub.tag, revision=revision, exist_ok=True)
    return Pushed(f"{api.endpoint}/{hub.repository}", revision, tuple(new))


def _commit(
    api: HfApi, hub: HubConfig, files: dict[str, ModelFile], delays: Sequence[float]
) -> tuple[str, list[str]]:
    """The revision that has these files, and those that it was given for that."""
    remaining = list(delays)
    new: list[str] = []
    while True:
        revision = _latest(api, hub, files)
        there = _there(api, hub, revision)
        missing = [name for name, file in files.items() if not file.is_there(there.get(name))]
        stale = _stale(there, files)
        if not missing and not stale:
            return revision, new
        new = new or missing
        try:
            commit = api.create_commit(
                _name(hub),
                operations=[
                    *(_operation(name, files[name]) for name in missing),
                    *(CommitOperationDelete(name) for name in stale),
                ],
                commit_message=_title(files),
                revision=hub.revision,
                create_pr=hub.pull_request,
            )
            return commit.pr_revision or commit.oid, new
        except Unanswered as error:
            if not error.commit or not remaining:
                raise
            wait(error.what, max(remaining.pop(0), error.requested_wait))


def _stale(there: dict[str, RepoFile], files: dict[str, ModelFile]) -> list[str]:
    """Graphs on the Hub of other weights than those that come."""
    weights = (name for name in files if name.endswith(".safetensors"))
    if all(files[name].is_there(there.get(name)) for name in weights):
        return []
    exported = exported_files()
    return [name for name in there if _matches(name, exported) and name not in files]


def _operation(name: str, file: ModelFile) -> CommitOperationAdd:
    operation = CommitOperationAdd(path_in_repo=name, path_or_fileobj=file.path)
    operation.upload_info.sha256 = bytes.fromhex(file.sha256)
    return operation


def _latest(api: HfApi, hub: HubConfig, files: dict[str, ModelFile]) -> str:
    """The commit to compare with: the branch's last, or a pull request that we made before."""
    if hub.pull_request:
        kind = {"discussion_type": "pull_request", "discussion_status": "open"}
        for pull in api.get_repo_discussions(_name(hub), **kind):  # type: ignore[arg-type]
            if pull.title == _title(files) and pull.git_reference is not None:
                return pull.git_reference
    return str(api.model_info(_name(hub), revision=hub.revision or MAIN).sha)


def _there(api: HfApi, hub: HubConfig, revision: str) -> dict[str, RepoFile]:
    tree = api.list_repo_tree(_name(hub), revision=revision, recursive=True)
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _title(files: dict[str, ModelFile]) -> str:
    """The title of the commit: it depends on the content alone."""
    content = "".join(f"{name} {file.sha256}\n" for name, file in sorted(files.items()))
    return f"A classifier by nlp_transfer ({hashlib.sha256(content.encode()).hexdigest()[:12]})"


def _refuse_public(api: HfApi, hub: HubConfig) -> None:
    if hub.private and not api.model_info(_name(hub)).private:
        raise refusal(_name(hub), "private was requested, but this repository exists and is public")


def _refuse_tag(api: HfApi, hub: HubConfig, files: dict[str, ModelFile]) -> None:
    """A tag that exists has to name these very files."""
    if hub.tag is None or hub.tag not in {t.name for t in api.list_repo_refs(_name(hub)).tags}:
        return
    there = _there(api, hub, hub.tag)
    if not all(file.is_there(there.get(name)) for name, file in files.items()):
        raise refusal(
            _name(hub), f"the tag {hub.tag} exists and names another model; choose another"
        )


def _refuse_creating(who: dict[str, Any], hub: HubConfig) -> None:
    """A repository that is not there yet: may this token make it?"""
    owner = _name(hub).split("/")[0]
    token = who.get("auth", {}).get("accessToken", {})
    writes = [org["name"] for org in who.get("orgs", ()) if org.get("roleInOrg") != "read"]
    allowed = owner in (who["name"], *writes) and token.get("role") != "read"
    scoped = token.get("fineGrained", {}).get("scoped")
    if scoped is not None:
        allowed = allowed and any(
            scope.get("entity", {}).get("name") == owner
            and "repo.write" in scope.get("permissions", ())
            for scope in scoped
        )
    if not allowed:
        raise refusal(
            _name(hub),
            f"it does not exist, and the token of {who['name']} may not create it "
            f"(it needs write access to repositories of {owner})",
        )


def _name(hub: HubConfig) -> str:
    assert hub.repository is not None, "a push has a repository"
    return hub.repository
