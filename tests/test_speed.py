"""What makes a step fast must not change what it computes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from prepared_runs import prepare
from tiny_models import make_tokenizer

from nlp_transfer import compose, run
from nlp_transfer.config.sections.tokenization import TokenizationConfig
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.tokenization.encoding import encode
from nlp_transfer.training.optimization.batch_size_finder import largest_micro_batch
from nlp_transfer.training.optimization.batching import PlannedBatches
from nlp_transfer.utils.distributed import join

Typed = Callable[..., list[str]]
FAST = ("checkpoint.dropout=0", "strategy.epochs=2", "strategy.learning_rate=5e-4")


def largest_gap(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(
    "more",
    [
        "training.gradient_checkpointing=true",
        pytest.param("training.compile=true", marks=pytest.mark.slow),
    ],
)
def test_the_weights_are_the_same_with_it_and_without(
    more: str, typed: Typed, tmp_path: Path
) -> None:
    weights = []
    for words in ((), (more,)):
        prepared = prepare(typed(*FAST, *words), tmp_path / "run")
        start = prepared.weights()
        prepared.train()
        weights.append(prepared.weights())
    assert largest_gap(start, weights[0]) > 1e-3
    assert largest_gap(*weights) < 1e-5
    assert not prepared.pretrained.model.is_activation_checkpointing


def test_gradient_checkpointing_works_where_frozen_layers_are_aside(
    typed: Typed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = []
    for words in ((), ("training.gradient_checkpointing=true",)):
        top = ("strategy=top_layers", "strategy.top_layers=1")
        prepared = prepare(typed(*FAST, *top, *words), tmp_path / "run")
        with caplog.at_level(logging.INFO, logger="nlp_transfer"):
            prepared.train()
        weights.append(prepared.weights())
    assert caplog.text.count("the frozen part runs once") == 2
    assert largest_gap(*weights) < 1e-6


def test_auto_finds_the_micro_batch_that_fits_and_keeps_the_global_batch(
    typed: Typed, tmp_path: Path
) -> None:
    weights = []
    for micro in ("auto", "null"):
        words = typed(*FAST, "training.batch_size=16", f"training.micro_batch_size={micro}")
        prepared = prepare(words, tmp_path / "run")
        if micro == "auto":
            only_so_many(prepared.pretrained.model, 5)
        history = prepared.train()
        weights.append(prepared.weights())
        assert history[0].steps == 14
        if micro == "auto":
            decided = json.loads((tmp_path / "run" / "run.json").read_text())["decisions"]
            assert decided["micro_batch_size"] == 4
    assert largest_gap(*weights) < 1e-6


@pytest.mark.parametrize("recomputed", ["false", "true"])
@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_the_trial_of_auto_keeps_what_training_keeps(
    strategy: str, recomputed: str, typed: Typed, tmp_path: Path
) -> None:
    more = (f"strategy={strategy}", f"training.gradient_checkpointing={recomputed}")
    words = ("strategy.epochs=1", "training.batch_size=16", "training.micro_batch_size=auto")
    prepared = prepare(typed(*words, *more), tmp_path / "run")
    model = prepared.pretrained.model
    with saved_tensors(model) as steps:
        learned = prepared.train()[0].parameters
    trial, *steps = (step for step in steps if step)
    # Beside it a gradient and two moments of what learns; in the trial, everything does.
    tried = trial + 3 * 4 * sum(parameter.numel() for parameter in model.parameters())
    needed = max(steps) + 3 * 4 * learned
    assert needed < 1.001 * tried
    if strategy == "full":
        assert tried < 1.01 * needed


@contextmanager
def saved_tensors(model: torch.nn.Module) -> Iterator[list[int]]:
    """Bytes that each forward pass keeps for its backward pass, but for the weights themselves."""
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    steps: list[int] = []
    pointers: set[int] = set()

    def begin(*_: object) -> None:
        pointers.clear()
        steps.append(0)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights | pointers:
            pointers.add(storage.data_ptr())
            steps[-1] += storage.nbytes()
        return tensor

    hook = model.register_forward_pre_hook(begin)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield steps
    hook.remove()


def only_so_many(model: torch.nn.Module, rows: int) -> None:
    """Run out of memory, as a GPU would, in a training pass of more rows."""

    def refuse(_: object, arguments: tuple[torch.Tensor, ...]) -> None:
        if torch.is_grad_enabled() and len(arguments[0]) > rows:
            raise torch.OutOfMemoryError("out of memory")

    model.bert.encoder.layer[0].register_forward_pre_hook(refuse)


def test_a_text_that_does_not_fit_by_itself_is_one_clear_error(
    typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed(), tmp_path / "run")
    only_so_many(prepared.pretrained.model, 0)
    inputs, collator = prepared.encoded.splits["train"].inputs, prepared.encoded.collator
    with pytest.raises(UserError, match="Not even one text of 2. tokens") as refusal:
        largest_micro_batch(prepared.pretrained.model, inputs, collator, 16, "fp32")
    assert refusal.value.code is ExitCode.MACHINE


def test_a_stage_says_how_fast_it_was_and_how_much_was_padding(
    typed: Typed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = prepare(typed(*FAST, "training.batch_size=16"), tmp_path / "run")
    with caplog.at_level(logging.INFO, logger="nlp_transfer"):
        speed = prepared.train()[0].speed
    assert speed is not None
    lengths = prepared.encoded.splits["train"].inputs.lengths
    per_text = speed.tokens_per_second / speed.texts_per_second
    assert per_text == pytest.approx(lengths.mean())
    assert 0 < speed.padding < 0.1
    assert "tokens/s without padding" in caplog.text


def test_padding_is_counted_as_it_is_fed() -> None:
    lengths = np.array([3, 9, 4, 4, 8, 1, 2])
    batches = PlannedBatches(lengths, 3, 0, accumulation=2)
    fed = [lengths[[draw.row for draw in micro if draw.counts]] for micro in batches]
    expected = sum(len(part) * part.max() for part in fed if len(part))
    assert batches.count(lengths)[2] == expected
    assert batches.count(np.ones(7, dtype=int)) == (7, 7, 7)


def test_texts_are_tokenized_once_and_read_ever_after(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(typed(), tmp_path / "run")
    process, tokenizer = join(prepared.config.training), prepared.pretrained.tokenizer
    config = TokenizationConfig(folder=str(tmp_path / "tokens"))
    arguments = (prepared.corpus, tokenizer, 64, config)
    plain, first = encode(*arguments), encode(*arguments, process)

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("tokenized again")

    with monkeypatch.context() as patch:
        patch.setattr("nlp_transfer.tokenization.batches._tokens", forbidden)
        again = encode(*arguments, process)
        with pytest.raises(AssertionError, match="tokenized again"):
            encode(prepared.corpus, tokenizer, 12, config, process)
    for name, split in plain.splits.items():
        for other in (first.splits[name], again.splits[name]):
            assert np.array_equal(split.inputs.offsets, other.inputs.offsets)
            assert split.cut == other.cut
            assert set(split.inputs.flat) == set(other.inputs.flat)
            for column, flat in split.inputs.flat.items():
                assert np.array_equal(flat, other.inputs.flat[column])
    other_tokenizer = make_tokenizer("roberta")
    assert encode(prepared.corpus, other_tokenizer, 64, config, process).splits["train"].inputs.flat
    assert len(list((tmp_path / "tokens").iterdir())) == 6


def test_cut_texts_are_counted_also_where_their_tokens_are_read(
    typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed(), tmp_path / "run")
    corpus: Corpus = prepared.corpus
    config = TokenizationConfig(folder=str(tmp_path / "tokens"))
    process = join(prepared.config.training)
    arguments = (corpus, prepared.pretrained.tokenizer, 12, config, process)
    cuts = [
        {name: split.cut for name, split in encode(*arguments).splits.items()} for _ in range(2)
    ]
    assert cuts[0] == cuts[1]
    assert all(cuts[0].values())


def test_a_dry_run_keeps_no_tokens(typed: Typed) -> None:
    run(compose(*typed("dry_run=true")))
    assert not list(Path().iterdir())


@pytest.mark.slow
def test_a_tracker_gets_the_losses_and_stays_in_the_run_folder(typed: Typed) -> None:
    words = ("training.report_to=[tensorboard]", "strategy.epochs=1", "run_dir=mine")
    run(compose(*typed("strategy=two_phase", *words)))
    stages = {folder.name for folder in Path("mine/tensorboard").iterdir()}
    assert stages == {"head", "all"}
    for stage in stages:
        (events,) = Path("mine/tensorboard", stage).glob("events.*")
        assert b"eval/accuracy" in events.read_bytes()


def test_a_tracker_that_is_not_installed_is_refused_before_training(typed: Typed) -> None:
    with pytest.raises(UserError, match="pip install mlflow") as refusal:
        run(compose(*typed("training.report_to=[mlflow]", "run_dir=mine")))
    assert refusal.value.code is ExitCode.CONFIG
    assert not Path("mine").exists()
