"""Uploading: to a small Hub on the loopback address, through the real client, against all odds."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_rows, slow_but
from hub_server import CUTS, Blob, Hub, Repo, serving
from huggingface_hub import constants
from huggingface_hub.utils import get_session
from prepared_runs import prepare
from safetensors.torch import load_file, save_file
from training_process import tell_at_step

from nlp_transfer import Classifier, compose, run
from nlp_transfer.cli import main as cli
from nlp_transfer.config.sections.delivery import HubConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.hub import client as hub_client
from nlp_transfer.hub.upload import Pushed, check, push
from nlp_transfer.pipeline import Result
from nlp_transfer.training.optimization.signals import handle_signals

Typed = Callable[..., list[str]]
TOKEN = "hf_TheSecretOfTheseTests"
QUICKLY = (0.0, 0.0)  # seconds before a request is made again
ONE_STAGE = ("strategy=feature_extraction", "strategy.epochs=1")
# What a push asks of a Hub that has nothing, in its order.
SENDING = ["preupload", "lfs_batch", "lfs_part", "lfs_part", "lfs_complete", "lfs_verify", "commit"]
REQUESTS = {
    "branch": [
        *("create", "info", "branch", "refs", "info", "tree", "validate_yaml"),
        *(*SENDING, "tree", "tag"),
    ],
    "pull_request": ["discussions", "info", "tree", "validate_yaml", *SENDING, "tree"],
}
ASK_THE_HUB = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer

texts = json.loads(sys.stdin.read())
model = AutoModelForSequenceClassification.from_pretrained("user/tiny").eval()
tokenizer = AutoTokenizer.from_pretrained("user/tiny")
batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
print(json.dumps(model(**batch).logits.tolist()))
"""


@dataclass(frozen=True)
class Finished:
    """A run that was trained before anybody thought of uploading it."""

    typed: list[str]
    result: Result


@pytest.fixture(scope="module")
def finished(typed: Typed, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A tiny classifier, trained while the token is in the environment."""
    folder = tmp_path_factory.mktemp("finished")
    stores = (f"tokenization.folder={folder / 'tokens'}", f"features.folder={folder / 'features'}")
    words = typed(*ONE_STAGE, *stores, f"run_dir={folder / 'run'}")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HF_TOKEN", TOKEN)
        return Finished(words, run(compose(*words)))


@pytest.fixture
def model(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the exported folder, for one test to use."""
    return Path(shutil.copytree(finished.result.model, tmp_path / "model"))


@contextmanager
def a_hub(monkeypatch: pytest.MonkeyPatch, part_size: int = 1 << 30) -> Iterator[Hub]:
    """An empty Hub that this process talks to."""
    hub = Hub(part_size)
    hub.tokens = {TOKEN: ("user", "write")}
    with serving(hub):
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        yield hub


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user whose token is in the environment."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "nobody_is_logged_in"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)


@pytest.fixture
def hub(online: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:  # noqa: ARG001
    """A Hub, and a user who may write there."""
    with a_hub(monkeypatch) as hub:
        yield hub


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that any library logs, however small."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    loggers = [logging.getLogger(name) for name in ("", "nlp_transfer", "huggingface_hub")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.addHandler(handler)
        one.setLevel(logging.DEBUG)
    yield stream
    for one, level in zip(loggers, before, strict=True):
        one.removeHandler(handler)
        one.setLevel(level)


def whole(model: Path) -> dict[str, bytes]:
    """What is to be on the Hub."""
    files = [path for path in model.rglob("*") if path.is_file()]
    return {str(file.relative_to(model)): file.read_bytes() for file in files}


def on(hub: Hub, revision: str = "main", repository: str = "user/tiny") -> dict[str, bytes]:
    """What is there, without what the Hub itself puts there."""
    files = hub.files(repository, revision)
    del files[".gitattributes"]
    return files


def refused(call: Callable[[], object], *words: str, code: ExitCode = ExitCode.HUB) -> str:
    """The message with which an upload is refused."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert caught.value.code is code, message
    assert [part for part in words if part not in message] == [], message
    assert TOKEN not in message
    return message


def routes(hub: Hub) -> list[str]:
    """What was asked, in its order."""
    return [request.route for request in hub.requests]


# A run that is pushed


def test_a_run_is_pushed_and_the_hub_s_model_gives_the_same_logits_in_a_fresh_process(
    hub: Hub, finished: Finished, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # It was trained without hub.repository: with it, it is the same run, and not trained again.
    weights = (finished.result.model / "model.safetensors").stat().st_mtime_ns
    again = run(compose(*finished.typed, "hub.repository=user/tiny", "hub.private=true"))
    assert again == finished.result
    assert (again.model / "model.safetensors").stat().st_mtime_ns == weights
    output = capfd.readouterr()
    assert f"On the Hub: {hub.endpoint}/user/tiny" in output.out
    assert "5 files are new, all hashes are equal" in output.out
    assert hub.repos["user/tiny"].private
    assert on(hub) == whole(again.model)
    assert hub.history("user/tiny") == 1
    run(compose(*finished.typed, "hub.repository=user/tiny"))
    assert "everything was there already" in capfd.readouterr().out

    texts = [text for text, _ in make_rows(20, 1)]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "cache"),
        "HF_TOKEN": TOKEN,
    }
    command = [sys.executable, "-c", ASK_THE_HUB]
    content = json.dumps(texts)
    done = subprocess.run(command, input=content, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    classifier = Classifier.load(again.model)
    batch = classifier.engine.tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
    here = classifier.engine.model(**batch).logits.detach().numpy()
    assert np.abs(np.array(json.loads(done.stdout)) - here).max() < 1e-6


def test_a_classifier_is_loaded_by_its_name_on_the_hub(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    there = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", there)
    push(model, HubConfig(repository="user/tiny"))
    loaded = Classifier.load("user/tiny").probabilities(["a lovely film"])
    np.testing.assert_allclose(loaded, Classifier.load(model).probabilities(["a lovely film"]))
    refused(lambda: Classifier.load("user/absent"), "user/absent", code=ExitCode.CHECKPOINT)


@pytest.mark.usefixtures("hub")
def test_what_cannot_be_pushed_is_refused_before_anything_is_done(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train() -> Result:
        return run(compose(*typed(*ONE_STAGE, "hub.repository=user/tiny")))

    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused(train, "user/tiny on the Hub", "does not know this token")
    monkeypatch.delenv("HF_TOKEN")
    refused(train, "there is no token; set HF_TOKEN or type hf auth login")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(train, "HF_HUB_OFFLINE")
    assert list(Path.cwd().iterdir()) == []


def test_a_name_that_cannot_be_and_wishes_that_exclude_one_another_are_refused() -> None:
    def composed(*overrides: str) -> str:
        overrides_given = ("+task=sentiment", *overrides)
        return refused(lambda: compose(*overrides_given), "hub.", code=ExitCode.CONFIG)

    for name in ("tiny", "user/tiny/more", "user/ti ny", "user/-tiny", f"user/{'x' * 100}"):
        assert "must be user/name" in composed(f"'hub.repository=\"{name}\"'"[1:-1])
    assert "hub.tag=v1 needs hub.repository" in composed("hub.tag=v1")
    for name in ("v 1", "a..b", "-x", "x/", "x.lock", "a~1"):
        refusal = composed("hub.repository=user/tiny", f"'hub.revision=\"{name}\"'"[1:-1])
        assert "is not a name that git accepts" in refusal
    assert compose("+task=sentiment", "hub.repository=user/tiny", "hub.tag=v1.0/red_2")
    both = ("hub.repository=user/tiny", "hub.pull_request=true", "hub.tag=v1")
    assert "leave out hub.tag" in composed(*both)
    message = composed(f"hub.token={TOKEN}")
    assert "hub.token is not a key of the configuration" in message


# Who may


def test_who_may_not_write_there_learns_it_at_once(hub: Hub) -> None:
    hub.tokens[TOKEN] = ("user", "read")
    refused(lambda: check(HubConfig("user/new"), QUICKLY), "may not create it", "user")
    hub.tokens[TOKEN] = ("user", "write")
    check(HubConfig("user/new"), QUICKLY)
    refused(lambda: check(HubConfig("somebody/new"), QUICKLY), "repositories of somebody")
    refused(lambda: check(HubConfig("club/new"), QUICKLY), "repositories of club")
    hub.tokens[TOKEN] = ("user", "fineGrained")
    hub.fine_grained[TOKEN] = ["repo.content.read"]
    refused(lambda: check(HubConfig("user/new"), QUICKLY), "may not create it")
    hub.fine_grained[TOKEN] = ["repo.content.read", "repo.write"]
    check(HubConfig("user/new"), QUICKLY)
    assert hub.repos == {}


def test_an_existing_repository_has_to_be_writable_and_as_private_as_asked(
    hub: Hub, model: Path
) -> None:
    push(model, HubConfig("user/tiny"), QUICKLY)
    check(HubConfig("user/tiny"), QUICKLY)
    private = HubConfig("user/tiny", private=True)
    refused(lambda: check(private, QUICKLY), "exists and is public")
    refused(lambda: push(model, private, QUICKLY), "exists and is public")
    hub.tokens[TOKEN] = ("user", "read")
    refused(lambda: check(HubConfig("user/tiny"), QUICKLY), "403", "this token may not do that")
    pull = HubConfig("user/other", pull_request=True)
    refused(lambda: check(pull, QUICKLY), "needs a repository that exists")


# Where to


def test_a_branch_and_a_tag_are_made(hub: Hub, model: Path) -> None:
    hub_config = HubConfig("user/tiny", revision="next", tag="v1")
    pushed = push(model, hub_config, QUICKLY)
    assert on(hub, "next") == on(hub, "v1") == whole(model)
    assert on(hub, "main") == {}
    assert push(model, hub_config, QUICKLY) == Pushed(pushed.url, pushed.revision, ())
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    hub.requests.clear()
    refused(lambda: push(model, hub_config, QUICKLY), "the tag v1 exists and names another model")
    assert "commit" not in routes(hub)


def test_a_pull_request_is_opened_once(hub: Hub, model: Path) -> None:
    push(model, HubConfig("user/tiny"), QUICKLY)
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    pull = HubConfig("user/tiny", pull_request=True)
    assert push(model, pull, QUICKLY).revision == "refs/pr/1"
    assert on(hub, "refs/pr/1") == whole(model)
    assert on(hub, "main") != whole(model)
    assert push(model, pull, QUICKLY).new == ()
    assert len(hub.repos["user/tiny"].pulls) == 1


# What is sent


def test_a_dry_run_lists_the_files_and_asks_nobody(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["push", str(model), "--repository", "user/tiny", "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[-1] for line in lines[1:]} == set(whole(model))
    assert hub.requests == []


def test_a_second_push_sends_nothing_and_a_changed_file_is_sent_alone(
    hub: Hub, model: Path
) -> None:
    first = push(model, HubConfig("user/tiny"), QUICKLY)
    assert set(first.new) == set(whole(model))
    hub.requests.clear()
    second = push(model, HubConfig("user/tiny"), QUICKLY)
    assert second.new == () and second.revision == first.revision
    assert not {"preupload", "lfs_batch", "lfs_upload", "commit"} & set(routes(hub))
    (model / "README.md").write_text((model / "README.md").read_text() + "\nMore.\n")
    assert push(model, HubConfig("user/tiny"), QUICKLY).new == ("README.md",)
    assert hub.sent("lfs_upload") == []
    assert on(hub) == whole(model)
    assert hub.history("user/tiny") == 2


@pytest.mark.usefixtures("online")
def test_large_objects_come_in_parts(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_hub(monkeypatch, part_size=30_000) as in_parts:
        push(model, HubConfig("user/tiny"), QUICKLY)
        assert len(in_parts.sent("lfs_part")) > 2
        assert on(in_parts) == whole(model)


def test_only_what_a_model_is_made_of_is_sent(hub: Hub, model: Path, log: io.StringIO) -> None:
    (model / "onnx").mkdir()
    (model / "onnx" / "model.onnx").write_bytes(b"a graph")
    is_sent = whole(model)
    (model / "answers.csv").write_text("text,label\na secret,positive\n")
    (model / "training_args.bin").write_bytes(b"pickled")
    (model / "rows.txt").write_text("a secret")
    (model / "answers.json").write_text('{"text": "a secret"}')
    for aside in ("checkpoint-5/model.safetensors", "data/README.md", "onnx.part/model.onnx"):
        (model / aside).parent.mkdir()
        (model / aside).write_bytes(b"not proved")
    push(model, HubConfig("user/tiny"), QUICKLY)
    assert on(hub) == is_sent
    skipped = "answers.csv, answers.json, checkpoint-5/model.safetensors, data/README.md, "
    skipped += "onnx.part/model.onnx, rows.txt, training_args.bin"
    assert f"not uploaded: {skipped}" in log.getvalue()


def test_a_graph_of_earlier_weights_leaves_the_hub_with_them(hub: Hub, model: Path) -> None:
    (model / "onnx").mkdir()
    (model / "onnx" / "model.onnx").write_bytes(b"a graph")
    push(model, HubConfig("user/tiny"), QUICKLY)
    shutil.rmtree(model / "onnx")
    push(model, HubConfig("user/tiny"), QUICKLY)
    assert "onnx/model.onnx" in on(hub)  # it is of these weights
    weights = load_file(model / "model.safetensors")
    weights["classifier.bias"] += 1
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    push(model, HubConfig("user/tiny"), QUICKLY)
    assert on(hub) == whole(model)
    assert hub.history("user/tiny") == 2


def test_rows_of_the_data_go_to_the_hub_only_where_that_is_asked_for(
    hub: Hub, finished: Finished
) -> None:
    rows = [text for seed, size in enumerate((101, 32, 33)) for text, _ in make_rows(size, seed)]
    there = [*finished.typed, "hub.repository=user/tiny"]

    def published() -> int:
        return sum(text.encode() in b"".join(on(hub).values()) for text in rows)

    run(compose(*there))
    assert published() == 0
    run(compose(*there, "hub.examples=true"))
    assert published() == 2
    model = finished.result.model
    refused(lambda: push(model, HubConfig("user/tiny"), QUICKLY), "shows rows of the data")
    run(compose(*there))
    assert published() == 0


# What goes wrong


SLOW = pytest.mark.slow
SCENARIOS = {
    "branch": HubConfig("user/tiny", private=True, revision="next", tag="v1"),
    "pull_request": HubConfig("user/tiny", pull_request=True),
}


def pushed_after(hub: Hub, hub_config: HubConfig, model: Path) -> None:
    """Everything is there, once."""
    if hub_config.pull_request:
        assert len(hub.repos["user/tiny"].pulls) == 1
        assert on(hub, "refs/pr/1") == whole(model)
    else:
        assert on(hub, "v1") == on(hub, "next") == whole(model)
        assert hub.history("user/tiny", "next") == 1


def begun(hub: Hub, hub_config: HubConfig) -> None:
    """A pull request needs a repository that exists."""
    if hub_config.pull_request:
        hub.repos["user/tiny"] = repo = Repo(private=False)
        repo.branches["main"] = repo.add({".gitattributes": Blob(b"")}, None)


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    ("scenario", "kind"),
    [
        ("branch", "lost"),
        *(pytest.param("branch", k, marks=SLOW) for k in ("500", "429", *CUTS) if k != "lost"),
        *(pytest.param("pull_request", k, marks=SLOW) for k in ("drop", "lost")),
    ],
)
def test_a_fault_that_passes_at_any_request_costs_nothing(
    scenario: str, kind: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_config = SCENARIOS[scenario]
    at = 0
    while True:
        with a_hub(monkeypatch, part_size=70_000) as failing:
            begun(failing, hub_config)
            failing.faults[at] = kind
            assert set(push(model, hub_config, QUICKLY).new) == set(whole(model)), at
            pushed_after(failing, hub_config, model)
            if failing.faults:  # there were fewer requests
                break
        at += 1
    assert at == len(REQUESTS[scenario])
    assert routes(failing) == REQUESTS[scenario]


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("scenario", slow_but(["branch"], SCENARIOS))
def test_a_refusal_at_any_request_is_not_argued_with_and_the_same_command_finishes(
    scenario: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_config = SCENARIOS[scenario]
    for at, route in enumerate(REQUESTS[scenario]):
        with a_hub(monkeypatch, part_size=70_000) as failing:
            begun(failing, hub_config)
            failing.faults[at] = "403"
            words = ("403: this token may not do that", f"The model is complete in {model}")
            refused(lambda: push(model, hub_config, QUICKLY), *words)
            assert route not in routes(failing)[at + 1 :]
            assert {"preupload", "commit", "tag"}.isdisjoint(routes(failing)[at + 1 :])
            uploaded = len(failing.objects)
            failing.requests.clear()
            push(model, hub_config, QUICKLY)
            pushed_after(failing, hub_config, model)
            assert bool(failing.sent("lfs_part")) == (not uploaded), route


def test_a_hub_that_stays_ill_is_given_up_with_an_exit_code_of_its_own(
    hub: Hub, model: Path
) -> None:
    before = whole(model)
    for route in ("create", "lfs_upload", "commit"):
        hub.failing[route] = ["500"] * 3
        refused(lambda: push(model, HubConfig("user/tiny"), QUICKLY), "answered 500")
        assert hub.failing[route] == []
    assert whole(model) == before
    push(model, HubConfig("user/tiny"), QUICKLY)
    assert on(hub) == before
    assert hub.history("user/tiny") == 1


def test_delays_grow_and_what_the_hub_asks_for_is_kept(
    hub: Hub, model: Path, log: io.StringIO
) -> None:
    hub.failing["info"] = ["500", "drop", "500"]
    push(model, HubConfig("user/tiny"), (0.01, 0.02, 0.03))
    lines = [line for line in log.getvalue().splitlines() if line.startswith("the Hub: GET")]
    assert [line.rsplit("again in ")[1] for line in lines] == ["0.01 s", "0.02 s", "0.03 s"]
    hub.retry_after = "1"
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    hub.failing["commit"] = ["429"]
    start = time.monotonic()
    push(model, HubConfig("user/tiny"), QUICKLY)
    assert 1 <= time.monotonic() - start < 5
    assert on(hub) == whole(model)


def test_a_hub_that_falls_silent_is_not_waited_for_forever(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "SILENCE", 0.3)
    hub.failing = {route: ["stall"] for route in ("whoami", "info", "lfs_upload", "commit")}
    start = time.monotonic()
    check(HubConfig("user/tiny"), QUICKLY)
    push(model, HubConfig("user/tiny"), QUICKLY)
    assert 4 * 0.3 < time.monotonic() - start < 4  # none has a patience of its own
    assert not any(hub.failing.values())
    assert on(hub) == whole(model)
    assert hub.history("user/tiny") == 1


@pytest.mark.usefixtures("log")
def test_a_signal_does_not_wait_for_the_hub(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.failing["info"] = ["500"]

    class Tells(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "again in 60 s" in record.getMessage():
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()

    logger = logging.getLogger("nlp_transfer")
    monkeypatch.setattr(logger, "handlers", [*logger.handlers, Tells()])
    with handle_signals():
        words = ("Stopped by SIGTERM", f"The model is complete in {model}")
        refused(lambda: push(model, HubConfig("user/tiny"), (60.0,)), *words, code=ExitCode.STOPPED)
    assert push(model, HubConfig("user/tiny"), QUICKLY).new


def test_a_byte_that_is_flipped_on_the_way_is_caught(hub: Hub, model: Path) -> None:
    def fails(*words: str) -> None:
        refused(lambda: push(model, HubConfig("user/tiny"), QUICKLY), *words)

    hub.failing["lfs_upload"] = ["flip"]
    fails("answered 400", "another sha256")  # the Hub looks at what it stores
    hub.failing["lfs_upload"], hub.checks_content = ["flip"], False
    fails("the uploaded files differ from the local ones: model.safetensors")  # and if it did not
    hub.objects.clear()
    hub.checks_content = True
    hub.repos.clear()
    hub.failing["commit"] = ["flip"]
    fails("the uploaded files differ from the local ones: tokenizer_config.json")
    assert push(model, HubConfig("user/tiny"), QUICKLY).new == ("tokenizer_config.json",)
    assert on(hub) == whole(model)


def test_killed_in_mid_upload_the_same_command_finishes_and_sends_the_rest(
    hub: Hub, model: Path
) -> None:
    # Of two large files the one that comes second never ends.
    weights = (model / "model.safetensors").read_bytes()
    (model / "second.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    hub.failing["lfs_upload"] = ["", "stall"]
    with typed_push(hub, model) as killed:
        assert hub.stalled.wait(30), killed.communicate()
        wait_until(lambda: len(hub.objects) == 1)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    hub.go_on.set()
    assert on(hub) == {}
    hub.requests.clear()
    with typed_push(hub, model) as again:
        out, err = again.communicate(timeout=30)
    assert again.returncode == 0, err
    assert f"On the Hub: {hub.endpoint}/user/tiny" in out
    assert len(hub.sent("lfs_upload")) == 1
    assert on(hub) == whole(model)
    assert hub.history("user/tiny") == 1
    assert TOKEN not in out + err


@contextmanager
def typed_push(hub: Hub, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The command line, in a process of its own."""
    code = "from nlp_transfer.cli.main import main; main()"
    command = [sys.executable, "-c", code, "push", str(folder), "--repository", "user/tiny"]
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1"}
    del environment["HF_HUB_OFFLINE"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        yield process


def wait_until(happens: Callable[[], bool]) -> None:
    """For ten seconds at most."""
    for _ in range(1000):
        if happens():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


# The token


def test_the_token_is_in_nothing_that_is_written(
    hub: Hub,
    typed: Typed,
    finished: Finished,
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
) -> None:
    half_way = prepare(typed("strategy.epochs=1", "training.keep_best=false"), Path("half_way"))
    tell_at_step(half_way, 3, signal.SIGTERM)
    with handle_signals(), pytest.raises(UserError, match="SIGTERM after step 3"):
        half_way.train()
    assert list(Path("half_way/checkpoints").rglob("training_args.bin"))
    hub.failing = {"preupload": ["500"], "commit": ["drop"], "tag": ["403"]}
    config = compose(*finished.typed, "hub.repository=user/tiny", "hub.tag=v1")
    with pytest.raises(UserError) as caught:
        run(config)
    run(config)
    assert on(hub, "v1") == whole(finished.result.model)
    # A store of large objects needs no token, and is given none.
    assert not any(request.token for request in hub.requests if request.route == "lfs_upload")
    assert all(request.token for request in hub.requests if request.path.startswith("/api/"))
    output = capfd.readouterr()
    traceback = str(caught.getrepr(chain=True))
    assert "403" in traceback and "again in" in log.getvalue()
    assert not any(TOKEN in text for text in (output.out, output.err, log.getvalue(), traceback))
    written = [
        file
        for folder in (Path.cwd(), finished.result.folder.parent)
        for file in folder.rglob("*")
        if file.is_file()
    ]
    assert {"run.json", "README.md", "training_args.bin"} <= {file.name for file in written}
    assert [file for file in written if TOKEN.encode() in file.read_bytes()] == []
    assert not any(TOKEN.encode() in content for content in on(hub).values())


# The command


def test_push_uploads_a_run_and_refuses_what_it_cannot_upload(
    hub: Hub,
    finished: Finished,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def enter(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["nlp-transfer", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        output = capsys.readouterr()
        return code, output.out + output.err

    folder = str(finished.result.folder)
    to = ("--repository", "user/tiny")
    code, output = enter("push", folder, *to, "--private", "--tag", "v1", "--revision", "next")
    assert (code, "5 files are new" in output) == (0, True), output
    assert on(hub, "v1") == whole(finished.result.model)
    code, output = enter("push", folder, *to, "--pull-request")
    assert (code, "refs/pr/1" in output) == (0, True), output
    code, output = enter("push", folder, *to, "--pull-request", "--tag", "v2")
    assert (code, "leave out hub.tag" in output) == (ExitCode.CONFIG, True)
    code, output = enter("push", "nowhere", *to)
    assert (code, "nowhere cannot be opened" in output) == (ExitCode.CHECKPOINT, True)
    Path("unfinished").mkdir()
    Path("unfinished/run.json").write_text('{"state": "unfinished"}')
    code, output = enter("push", "unfinished", *to)
    assert (code, "not finished" in output) == (ExitCode.RUN_FOLDER, True)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    code, output = enter("push", folder, *to)
    assert (code, "does not know this token" in output) == (ExitCode.HUB, True)


@pytest.mark.usefixtures("hub")
def test_whoever_talks_to_the_hub_afterwards_does_so_as_before(model: Path) -> None:
    before = get_session()
    push(model, HubConfig("user/tiny"), QUICKLY)
    after = get_session()
    assert type(after) is type(before)
    assert after.timeout == before.timeout
    assert after.event_hooks == before.event_hooks


@pytest.mark.usefixtures("online")
@pytest.mark.slow
def test_300_megabytes_take_the_road_of_large_files(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = (model / "model.safetensors").read_bytes()
    large_weights = torch.frombuffer(bytearray(os.urandom(300_000_000)), dtype=torch.uint8)
    save_file({"weight": large_weights}, model / "large.safetensors")
    for part_size in (1 << 30, 64_000_000):
        with a_hub(monkeypatch, part_size) as large:
            large.failing = {"lfs_upload": ["half_body"], "lfs_part": ["", "half_body"]}
            push(model, HubConfig("user/tiny"), QUICKLY)
            assert on(large) == whole(model)
    with a_hub(monkeypatch) as killing:
        # The Hub has read 150 of them when the process dies.
        killing.objects[hashlib.sha256(weights).hexdigest()] = weights
        killing.failing = {"lfs_upload": ["stall"]}
        with typed_push(killing, model) as killed:
            assert killing.stalled.wait(60)
            killed.send_signal(signal.SIGKILL)
        killing.go_on.set()
        with typed_push(killing, model) as again:
            assert "On the Hub" in again.communicate(timeout=120)[0]
        assert on(killing) == whole(model)
        assert killing.history("user/tiny") == 1
