"""A small Hugging Face Hub on the loopback address, for the real `huggingface_hub` client.

It speaks the HTTP endpoints that creating, uploading, reading back and downloading a model use,
with `HF_ENDPOINT` pointing at it and `HF_HUB_DISABLE_XET=1`. It is strict where the Hub is: wrong
hashes, sizes, order and tokens are refused. It can be told to fail at any request, in many ways.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS_SUFFIXES = (".safetensors", ".onnx", ".bin")
MAIN = "main"
# Refused before anything is done; for `lost` and `half_answer` the request is done all the same.
STATUS_FAULTS = {"500": 500, "429": 429, "403": 403}
CUTS = ("drop", "half_body", "half_answer", "lost")


@dataclass(frozen=True)
class Blob:
    """A file of a commit: its content, or the name of a large object."""

    content: bytes | None
    oid: str | None = None  # sha256 of a large object
    size: int = 0


@dataclass
class Repo:
    """Commits by name, and what points at them."""

    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: list[tuple[str, str]] = field(default_factory=list)  # title and commit

    def find(self, revision: str) -> str | None:
        """The commit of a branch, tag, pull request or commit."""
        named = {**{f"refs/pr/{i}": oid for i, (_, oid) in enumerate(self.pulls, 1)}}
        named |= {**self.tags, **self.branches}
        return named.get(revision, revision if revision in self.commits else None)

    def add(self, files: dict[str, Blob], parent: str | None) -> str:
        """A new commit."""
        oid = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[oid] = files
        if parent is not None:
            self.parents[oid] = parent
        return oid


@dataclass(frozen=True)
class RecordedRequest:
    """One request: what was asked, and how many bytes of body came."""

    route: str
    path: str
    size: int
    token: bool


@dataclass
class Refused(Exception):
    """An answer that is not 200."""

    status: int
    message: str
    code: str = ""
    more: dict[str, str] = field(default_factory=dict)


class Hub:
    """Users, repositories, large objects, what was asked, and the faults to come."""

    def __init__(self, part_size: int = 1 << 30) -> None:
        self.part_size = part_size  # larger objects come in parts
        self.tokens = {"hf_right": ("user", "write"), "hf_reads": ("user", "read")}
        self.fine_grained: dict[str, list[str]] = {}  # token: permissions on its user's things
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.announced: dict[str, int] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.requests: list[RecordedRequest] = []
        self.faults: dict[int, str] = {}  # number of the request: kind
        self.failing: dict[str, list[str]] = {}  # route: kinds, one for each request to come
        self.retry_after = "0"
        self.checks_content = True
        self.stalled, self.go_on = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self.endpoint = ""

    def sent(self, route: str) -> list[RecordedRequest]:
        """The requests to one route, in their order."""
        return [request for request in self.requests if request.route == route]

    def arrived(self, request: RecordedRequest) -> str | None:
        """Note a request; what is to go wrong with it, if anything."""
        with self.lock:
            self.requests.append(request)
            kinds = self.failing.get(request.route)
            return kinds.pop(0) if kinds else self.faults.pop(len(self.requests) - 1, None)

    def files(self, repository: str, revision: str = MAIN) -> dict[str, bytes]:
        """The content of every file."""
        repo = self.repos[repository]
        commit = repo.commits[repo.find(revision) or ""]
        return {path: self.content(blob) for path, blob in commit.items()}

    def content(self, blob: Blob) -> bytes:
        """Of a file, wherever it lies."""
        return self.objects[blob.oid] if blob.oid else blob.content or b""

    def history(self, repository: str, revision: str = MAIN) -> int:
        """How many commits there are up to a revision, the empty first one left out."""
        repo, count = self.repos[repository], 0
        oid = repo.find(revision)
        while oid is not None and (oid := repo.parents.get(oid)) is not None:
            count += 1
        return count


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve while this lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()


def git_hash(content: bytes) -> str:
    """As git names a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests look at `Hub.requests`."""

    def do_GET(self) -> None:  # noqa: N802 (the names are those of http.server)
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _handle(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        known = self._route(url.path)
        if known is None:
            return self._answer(404, {"error": f"{self.command} {url.path} is not served"}, False)
        route, call, match = known
        size = int(self.headers.get("Content-Length", 0))
        fault = self.hub.arrived(
            RecordedRequest(route, url.path, size, "authorization" in self.headers)
        )
        if fault in ("drop", "half_body"):
            self.rfile.read(0 if fault == "drop" else size // 2)
            return self._cut()
        if fault == "stall":
            self.rfile.read(size // 2)
            self.hub.stalled.set()
            self.hub.go_on.wait()
            return self._cut()
        body = self.rfile.read(size)
        if fault == "flip" and body:
            body = self._flipped(route, body)
        try:
            if fault in STATUS_FAULTS:
                raise Refused(STATUS_FAULTS[fault], f"a fault of kind {fault}")
            status, answer = 200, call(body, *match)
        except Refused as refused:
            status, answer = refused.status, {"error": refused.message, **refused.more}
            self.extra = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            if status == 429:
                self.extra["Retry-After"] = self.hub.retry_after
        if fault == "lost":
            return self._cut()
        return self._answer(status, answer, half=fault == "half_answer")

    def _answer(self, status: int, answer: Any, half: bool) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in getattr(self, "extra", {}).items():
            self.send_header(name, value)
        self.extra: dict[str, str] = {}
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if half:
            self.wfile.write(content[: len(content) // 2])
            self._cut()
        elif self.command != "HEAD":
            self.wfile.write(content)

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def _flipped(self, route: str, body: bytes) -> bytes:
        """One byte of a file is another: of a large one, or of the last small one of a commit."""
        if route != "commit":
            return body[:-1] + bytes([body[-1] ^ 1])
        lines = [json.loads(line) for line in body.splitlines()]
        value = [line for line in lines if line["key"] == "file"][-1]["value"]
        content = base64.b64decode(value["content"])
        value["content"] = base64.b64encode(content[:-1] + bytes([content[-1] ^ 1])).decode()
        return b"\n".join(json.dumps(line).encode() for line in lines)

    def _route(self, path: str) -> tuple[str, Callable[..., Any], tuple[str, ...]] | None:
        name = r"([\w.-]+/[\w.-]+)"
        api = f"/api/models/{name}"
        for pattern, route in (
            (r"/api/whoami-v2", "whoami"),
            (r"/api/repos/create", "create"),
            (r"/api/validate-yaml", "validate_yaml"),
            (rf"{api}/auth-check(/write)?", "auth_check"),
            (rf"{api}/preupload/(.+)", "preupload"),
            (rf"{api}/commit/(.+)", "commit"),
            (rf"{api}/branch/(.+)", "branch"),
            (rf"{api}/tag/(.+)", "tag"),
            (rf"{api}/refs", "refs"),
            (rf"{api}/discussions", "discussions"),
            (rf"{api}/tree/([^/]+)(/.+)?", "tree"),
            (rf"{api}(?:/revision/(.+))?", "info"),
            (rf"/{name}\.git/info/lfs/objects/batch", "lfs_batch"),
            (r"/storage/verify", "lfs_verify"),
            (r"/storage/([0-9a-f]{64})", "lfs_upload"),
            (r"/storage/([0-9a-f]{64})/(\d+)", "lfs_part"),
            (r"/storage/([0-9a-f]{64})/complete", "lfs_complete"),
            (rf"/{name}/resolve/([^/]+)/(.+)", "resolve"),
        ):
            if match := re.fullmatch(pattern, path):
                groups = tuple(unquote(group or "") for group in match.groups())
                return route, getattr(self, f"_{route}"), groups
        return None

    # Who asks, and for what

    def _user(self) -> tuple[str, str]:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.hub.tokens:
            raise Refused(401, "Invalid credentials in Authorization header")
        return self.hub.tokens[token]

    def _writer(self, repository: str) -> None:
        user, role = self._user()
        if role == "read" or repository.split("/")[0] != user:
            raise Refused(403, "You don't have the rights to write here")

    def _repo(self, repository: str) -> Repo:
        repo = self.hub.repos.get(repository)
        if repo is None or (repo.private and not self.headers.get("Authorization")):
            raise Refused(404, "Repository not found", "RepoNotFound")
        return repo

    def _commit_of(self, repository: str, revision: str) -> str:
        oid = self._repo(repository).find(revision)
        if oid is None:
            raise Refused(404, f"No revision {revision}", "RevisionNotFound")
        return oid

    def _whoami(self, _: bytes) -> Any:
        name, role = self._user()
        access: dict[str, Any] = {"displayName": "test", "role": role}
        if role == "fineGrained":
            token = self.headers["Authorization"].removeprefix("Bearer ")
            entity = {"type": "user", "name": name}
            permissions = self.hub.fine_grained[token]
            access["fineGrained"] = {"scoped": [{"entity": entity, "permissions": permissions}]}
        about = {"type": "user", "name": name, "orgs": [{"name": "club", "roleInOrg": "read"}]}
        return {**about, "auth": {"type": "access_token", "accessToken": access}}

    def _auth_check(self, _: bytes, repository: str, write: str) -> Any:
        self._user()
        self._repo(repository)
        if write:
            self._writer(repository)
        return {}

    # Repositories and what points at commits

    def _create(self, body: bytes) -> Any:
        wish = json.loads(body)
        repository = f"{wish['organization'] or self._user()[0]}/{wish['name']}"
        self._writer(repository)
        answer = {"url": f"{self.hub.endpoint}/{repository}", "name": repository}
        with self.hub.lock:
            if repository in self.hub.repos:
                raise Refused(409, "You already created this model repo", more=answer)
            repo = self.hub.repos[repository] = Repo(wish.get("visibility") == "private")
            repo.branches[MAIN] = repo.add({".gitattributes": Blob(b"*.safetensors lfs\n")}, None)
        return answer

    def _info(self, _: bytes, repository: str, revision: str) -> Any:
        repo = self._repo(repository)
        sha = self._commit_of(repository, revision or MAIN)
        return {"id": repository, "sha": sha, "private": repo.private, "tags": [], "siblings": []}

    def _branch(self, body: bytes, repository: str, branch: str) -> Any:
        self._writer(repository)
        repo = self._repo(repository)
        if branch in repo.branches:
            raise Refused(409, "This branch is there already")
        repo.branches[branch] = self._commit_of(
            repository, json.loads(body).get("startingPoint", MAIN)
        )
        return {}

    def _tag(self, body: bytes, repository: str, revision: str) -> Any:
        self._writer(repository)
        repo, name = self._repo(repository), json.loads(body)["tag"]
        if name in repo.tags:
            raise Refused(409, "This tag is there already")
        repo.tags[name] = self._commit_of(repository, revision)
        return {}

    def _refs(self, _: bytes, repository: str) -> Any:
        repo = self._repo(repository)
        named = {"branches": repo.branches, "tags": repo.tags}
        listed = {
            kind: [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c} for n, c in of.items()]
            for kind, of in named.items()
        }
        return {**listed, "converts": []}

    def _discussions(self, _: bytes, repository: str) -> Any:
        common = {
            "createdAt": "2026-01-01T00:00:00.000Z",
            "status": "open",
            "isPullRequest": True,
            "author": {"name": "user"},
            "repo": {"name": repository, "type": "model"},
        }
        pulls = enumerate(self._repo(repository).pulls, 1)
        listed = [{"num": number, "title": title, **common} for number, (title, _) in pulls]
        return {"count": len(listed), "start": 0, "discussions": listed}

    # Files

    def _tree(self, _: bytes, repository: str, revision: str, path: str) -> Any:
        files = self._repo(repository).commits[self._commit_of(repository, revision)]
        if path:
            raise Refused(404, f"There is no {path}", "EntryNotFound")
        return [self._entry(name, blob) for name, blob in files.items()]

    def _entry(self, path: str, blob: Blob) -> dict[str, Any]:
        content = self.hub.content(blob)
        entry = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
        if blob.oid:
            entry["oid"] = git_hash(f"oid sha256:{blob.oid}".encode())
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        return entry

    def _resolve(self, _: bytes, repository: str, revision: str, path: str) -> Any:
        oid = self._commit_of(repository, revision)
        blob = self._repo(repository).commits[oid].get(path)
        self.extra = {"X-Repo-Commit": oid}
        if blob is None:
            raise Refused(404, f"There is no {path}", "EntryNotFound")
        content = self.hub.content(blob)
        self.extra["ETag"] = f'"{blob.oid or git_hash(content)}"'
        return content

    def _validate_yaml(self, body: bytes) -> Any:
        head = json.loads(body)["content"].split("---\n")[1]
        try:
            data = yaml.safe_load(head)
            for model in data["model-index"]:
                for result in model["results"]:
                    assert {"task", "dataset", "metrics"} <= set(result)
                    assert all(isinstance(m["value"], float) for m in result["metrics"])
        except (yaml.YAMLError, KeyError, TypeError, AssertionError) as error:
            raise Refused(400, f"bad metadata: {error!r}") from error
        return {"errors": [], "warnings": []}

    def _preupload(self, body: bytes, repository: str, revision: str) -> Any:
        if "create_pr" not in self.query:
            self._writer(repository)
        there = self._repo(repository).commits[self._commit_of(repository, revision)]
        answers = []
        for file in json.loads(body)["files"]:
            large = file["path"].endswith(LFS_SUFFIXES)
            answer = {"path": file["path"], "uploadMode": "lfs" if large else "regular"}
            blob = there.get(file["path"])
            if blob is not None:
                answer["oid"] = blob.oid or git_hash(blob.content or b"")
            answers.append({**answer, "shouldIgnore": False})
        return {"files": answers}

    def _lfs_batch(self, body: bytes, repository: str) -> Any:
        self._user()
        self._repo(repository)
        return {"objects": [self._instruction(o) for o in json.loads(body)["objects"]]}

    def _instruction(self, blob: dict[str, Any]) -> dict[str, Any]:
        oid, size = blob["oid"], blob["size"]
        if oid in self.hub.objects:
            return {"oid": oid, "size": size}
        self.hub.announced[oid] = size
        upload: dict[str, Any] = {"href": f"{self.hub.endpoint}/storage/{oid}"}
        if size > self.hub.part_size:
            count = -(-size // self.hub.part_size)
            parts = {f"{i:05}": f"{upload['href']}/{i}" for i in range(1, count + 1)}
            href = f"{upload['href']}/complete"
            upload = {"href": href, "header": {"chunk_size": str(self.hub.part_size), **parts}}
        verify = {"href": f"{self.hub.endpoint}/storage/verify"}
        return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}

    def _lfs_upload(self, body: bytes, oid: str) -> Any:
        if oid not in self.hub.announced:
            raise Refused(403, "Nobody announced this object")
        if len(body) != self.hub.announced[oid]:
            raise Refused(400, f"{len(body)} bytes of {self.hub.announced[oid]}")
        if self.hub.checks_content and hashlib.sha256(body).hexdigest() != oid:
            raise Refused(400, "The content has another sha256")
        self.hub.objects[oid] = body
        return {}

    def _lfs_part(self, body: bytes, oid: str, number: str) -> Any:
        if oid not in self.hub.announced:
            raise Refused(403, "Nobody announced this object")
        self.hub.parts.setdefault(oid, {})[int(number)] = body
        self.extra = {"ETag": hashlib.md5(body).hexdigest()}
        return {}

    def _lfs_complete(self, body: bytes, oid: str) -> Any:
        parts = self.hub.parts.get(oid, {})
        uploaded_parts = json.loads(body)["parts"]
        for i, part in enumerate(uploaded_parts, 1):
            if part["partNumber"] != i or part["etag"] != hashlib.md5(parts[i]).hexdigest():
                raise Refused(400, "The parts are not in order")
        return self._lfs_upload(b"".join(parts[i] for i in range(1, len(uploaded_parts) + 1)), oid)

    def _lfs_verify(self, body: bytes) -> Any:
        blob = json.loads(body)
        content = self.hub.objects.get(blob["oid"])
        if content is None or len(content) != blob["size"]:
            raise Refused(404, "This object is not there")
        return {}

    def _commit(self, body: bytes, repository: str, revision: str) -> Any:
        pull = "create_pr" in self.query
        if not pull:
            self._writer(repository)
        lines = [json.loads(line) for line in body.splitlines()]
        if lines[0]["key"] != "header":
            raise Refused(400, "The header comes first")
        with self.hub.lock:
            repo = self._repo(repository)
            parent = self._commit_of(repository, revision)
            if lines[0]["value"].get("parentCommit", parent) != parent:
                raise Refused(412, "The branch has moved on")
            gone = {line["value"]["path"] for line in lines if line["key"] == "deletedFile"}
            unchanged = {
                name: blob for name, blob in repo.commits[parent].items() if name not in gone
            }
            operations = [line for line in lines[1:] if line["key"] != "deletedFile"]
            files = {**unchanged, **dict(map(self._file, operations))}
            oid = repo.add(files, parent)
            if pull:
                repo.pulls.append((lines[0]["value"]["summary"], oid))
            else:
                repo.branches[revision] = oid
        home = f"{self.hub.endpoint}/{repository}"
        answer = {"success": True, "commitOid": oid, "commitUrl": f"{home}/commit/{oid}"}
        return {**answer, "pullRequestUrl": f"{home}/discussions/{len(repo.pulls)}"}

    def _file(self, line: dict[str, Any]) -> tuple[str, Blob]:
        value = line["value"]
        if line["key"] == "file":
            return value["path"], Blob(base64.b64decode(value["content"]))
        if value["oid"] not in self.hub.objects:
            raise Refused(400, f"{value['path']} is committed before it was uploaded")
        return value["path"], Blob(None, value["oid"], value["size"])
