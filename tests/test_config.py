"""What can be typed: every key and every wrong key, generated from the dataclasses themselves."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from nlp_transfer.cli.train import help_text
from nlp_transfer.config.choices import Precision
from nlp_transfer.config.composition import compose
from nlp_transfer.config.groups import ADDED_GROUPS, CONFIG_MODULE, GROUPS
from nlp_transfer.config.schema import Config
from nlp_transfer.errors import ExitCode, UserError

TASK = "+task=sentiment"
STAGE = "all"  # the one stage of the default strategy
PREFIXES = ("", "+", "++")


def walk(node: Any = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its type; a mapping of stages is entered at the default strategy's stage."""
    hints = get_type_hints(node)
    for field in fields(node):
        key, kind = f"{prefix}{field.name}", hints[field.name]
        yield key, kind
        if is_dataclass(kind):
            yield from walk(kind, f"{key}.")
        elif get_origin(kind) is dict and is_dataclass(get_args(kind)[1]):
            yield from walk(get_args(kind)[1], f"{key}.{STAGE}.")


KEYS = dict(walk())
SECTIONS = [key for key, kind in KEYS.items() if is_dataclass(kind)] + [f"strategy.stages.{STAGE}"]


def keys_of(section: str) -> list[str]:
    """The keys directly below a section; those of the whole configuration for an empty name."""
    return [key for key in KEYS if key.rpartition(".")[0] == section]


def misspelt(key: str) -> list[str]:
    """The key with its last letter dropped, and with a letter doubled."""
    middle = len(key) - len(key.rpartition(".")[2]) // 2 - 1
    wrong = [key[:-1], key[:middle] + key[middle] + key[middle:]]
    return [w for w in wrong if w not in KEYS]


def core(kind: Any) -> Any:
    """The type without its `| None`."""
    if get_origin(kind) is types.UnionType:
        return next(option for option in get_args(kind) if option is not types.NoneType)
    return kind


def wrong_value(kind: Any, prefix: str) -> str | None:
    """What a person could type that is not of this type; None: Hydra itself has no way in."""
    kind = core(kind)
    if get_origin(kind) is dict:
        return "wrong"
    if kind is Any:  # a text, or something made of texts and numbers
        return None if prefix == "+" else "[true]"
    if prefix == "+":
        # Only a mapping can be added to what is there already, and never to a list.
        return None if get_origin(kind) is list else "{a: 1}"
    if kind is str:
        return "[1,2]"
    assert kind in (int, float, bool) or get_origin(kind) is list or issubclass(kind, Enum)
    return "wrong"


def refusal(*overrides: str, config_dir: Path | None = None) -> str:
    """The one message of the refusal; nothing is touched on disk by then."""
    before = sorted(Path.cwd().iterdir())
    with pytest.raises(UserError) as refused:
        compose(*overrides, config_dir=config_dir, in_memory=False)
    assert refused.value.code is ExitCode.CONFIG
    assert sorted(Path.cwd().iterdir()) == before
    message = str(refused.value)
    # The libraries' own words for it help nobody.
    assert "full_key" not in message
    assert "Structured config" not in message
    return message


def test_the_walk_finds_the_keys_of_every_depth() -> None:
    assert {"seed", "training", "training.batch_size", "strategy.stages.all.layers"} <= set(KEYS)
    assert len(KEYS) > 50


@pytest.mark.parametrize("key", KEYS)
def test_a_misspelt_key_is_refused_with_the_key_that_was_meant(key: str) -> None:
    wrong_keys = misspelt(key)
    assert wrong_keys
    for wrong in wrong_keys:
        for prefix in PREFIXES:
            message = refusal(TASK, f"{prefix}{wrong}=1")
            sentence = f"{wrong} is not a key of the configuration; the nearest one is {key}."
            assert message == sentence, f"{prefix}{wrong}"


@pytest.mark.parametrize("wrong", ["datset.text", "dataset.txt", "datset.txt", "Dataset.text"])
def test_a_key_below_a_misspelt_section_is_named_whole(wrong: str) -> None:
    assert refusal(TASK, f"{wrong}=x").endswith("the nearest one is dataset.text.")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("seed=1", "seed=2"), "seed is given twice: seed=1 and seed=2."),
        (("dataset.train=a.csv", "+dataset.train=b.csv"), "dataset.train is given twice:"),
        (("strategy=full", "++strategy=lora"), "strategy is given twice:"),
        (("+task=classify",), "task is given twice: +task=sentiment and +task=classify."),
        (("seed=1", "seed=1", "seed=2"), "seed is given 3 times: seed=1 and seed=1 and seed=2."),
    ],
)
def test_a_key_that_is_given_twice_is_refused(words: tuple[str, ...], named: str) -> None:
    assert named in refusal(TASK, *words)


def test_keys_of_hydra_and_parts_of_a_section_may_come_together() -> None:
    more = ("strategy=full", "strategy.epochs=2", "hydra.verbose=a")
    assert compose(TASK, *more, "hydra.verbose=b").strategy.epochs == 2


def test_misspelt_keys_inside_a_mapping_are_refused() -> None:
    overrides, lines = [], []
    for section in SECTIONS:
        wrong = {wrong: key for key in keys_of(section) for wrong in misspelt(key)}
        inside = ", ".join(f"{name.rpartition('.')[2]}: 1" for name in wrong)
        overrides.append(f"++{section}={{{inside}}}")
        lines += [
            f"{name} is not a key of the configuration; the nearest one is {key}."
            for name, key in wrong.items()
        ]
    message = refusal(TASK, *overrides)
    assert [line for line in lines if line not in message.splitlines()] == []


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_key_below_a_misspelt_section_is_refused(prefix: str) -> None:
    for section in (key for key, kind in KEYS.items() if is_dataclass(kind)):
        for wrong in misspelt(section):
            for key in keys_of(section):
                name = key.rpartition(".")[2]
                message = refusal(TASK, f"{prefix}{wrong}.{name}=1")
                assert f"the nearest one is {section}." in message, f"{prefix}{wrong}.{name}"


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_key_below_a_value_is_refused(prefix: str) -> None:
    for key, kind in KEYS.items():
        if not is_dataclass(kind) and get_origin(core(kind)) is not dict:
            message = refusal(TASK, f"{prefix}{key}.deeper=1")
            assert f"the nearest one is {key}." in message, f"{prefix}{key}.deeper"


# Group keys (checkpoint=…) choose a file, so a wrong value of theirs is a file that is not there;
# a stage of the wrong type would hide its own keys, so it has a test of its own.
VALUES = {
    key: kind
    for key, kind in KEYS.items()
    if not is_dataclass(kind) and key not in (*GROUPS, "strategy.stages")
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_value_of_the_wrong_type_is_refused_by_name(prefix: str) -> None:
    wrong = {key: wrong_value(kind, prefix) for key, kind in VALUES.items()}
    wrong = {key: value for key, value in wrong.items() if value is not None}
    lines = refusal(TASK, *(f"{prefix}{key}={value}" for key, value in wrong.items())).splitlines()
    accepted = [key for key in wrong if not any(line.startswith(f"{key}=") for line in lines)]
    files = {"dataset.train", "dataset.validation", "dataset.test"}  # a list of them is a value
    assert set(accepted) - files == set()


@pytest.mark.parametrize(
    "key", ["checkpoint.name", "strategy.name", f"strategy.stages.{STAGE}.layers"]
)
@pytest.mark.parametrize("value", ["[1,2]", "{a: 1}", "null"])
def test_a_value_without_a_default_of_the_wrong_type_is_refused_by_name(
    key: str, value: str
) -> None:
    assert refusal(TASK, f"{key}={value}").startswith(f"{key}=")


@pytest.mark.parametrize("prefix", ["", "++"])
@pytest.mark.parametrize("value", ["wrong", "5", "null"])
def test_sections_that_are_no_mappings_are_refused_by_name(prefix: str, value: str) -> None:
    sections = [key for key in SECTIONS if "." not in key and key not in GROUPS]
    sections.append("strategy.stages")
    lines = refusal(TASK, *(f"{prefix}{key}={value}" for key in sections)).splitlines()
    accepted = [key for key in sections if not any(line.startswith(f"{key}=") for line in lines)]
    assert accepted == []


@pytest.mark.parametrize("value", ["wrong", "[1,2]"])
def test_a_stage_that_is_no_mapping_is_refused(value: str) -> None:
    key = f"strategy.stages.{STAGE}"
    assert key in refusal(TASK, f"{key}={value}")


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("value", ["nothing", "5", "1.5", "true", "null", "[1,2]", "{a: 1}"])
def test_a_group_takes_only_the_name_of_one_of_its_options(group: str, value: str) -> None:
    plus = "+" if group == "task" else ""
    others = () if group == "task" else (TASK,)
    assert group in refusal(*others, f"{plus}{group}={value}")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("strategy=ful", "Did you mean full?"),
        ("+strategy=Full", "Did you mean full?"),
        ("checkpoint=distilbert-base-uncased", "Did you mean distilbert?"),
        ("checkpoint=user/name", "checkpoint.name=user/name"),
        ("dataset=tickets.csv", "dataset.train=tickets.csv"),
        ("search=rate", "Did you mean rates?"),
    ],
)
def test_a_name_that_a_group_does_not_have_is_refused_in_one_line(word: str, meant: str) -> None:
    message = refusal(TASK, word)
    assert meant in message
    assert len(message.splitlines()) == 1


def test_a_group_is_named_with_and_without_a_plus() -> None:
    config = compose("task=sentiment", "+strategy=full", "search=rates")
    assert (config.task, config.strategy.name) == ("sentiment", "full")


def test_a_name_of_a_folder_of_ones_own_is_known(tmp_path: Path) -> None:
    folder = write_strategy(tmp_path, "name: mine\nstages: {all: {layers: all}}\n")
    message = refusal(TASK, "strategy=min", config_dir=folder)
    assert "Did you mean mine?" in message


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_that_is_forced_is_refused(group: str) -> None:
    assert f"++{group}=nothing" in refusal(TASK, f"++{group}=nothing")


@pytest.mark.parametrize(
    "override",
    [
        "evaluation.metrics=[[accuracy]]",
        "evaluation.metrics=[accuracy,{a: 1}]",
        "dataset.label_names={a: [1]}",
        "dataset.label_names={a: {b: 1}}",
        "dataset.label_names={a: null}",
    ],
)
def test_what_a_list_or_mapping_holds_has_a_type_too(override: str) -> None:
    assert override.partition("=")[0] in refusal(TASK, override)


@pytest.mark.parametrize("override", ["seed=[", "seed", "training.loss=x(1)", "seed={1"])
def test_what_cannot_be_parsed_is_refused_showing_what_was_typed(override: str) -> None:
    assert override in refusal(TASK, override)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.batch_size=abc", "expected a whole number"),
        ("strategy.learning_rate=high", "expected a number or null"),
        ("training.cpu=maybe", "expected true | false"),
        ("training.precision=fp8", "expected auto | fp32 | bf16 | fp16"),
        ("strategy.stages.all.epochs=many", "expected a number"),
    ],
)
def test_a_value_of_the_wrong_type_is_answered_with_what_is_expected(
    override: str, expected: str
) -> None:
    key, _, value = override.partition("=")
    message = refusal(TASK, "strategy=full", override)
    assert message.startswith(f"{key}='{value}': {expected}")


def test_an_equal_sign_between_spaces_is_one_message() -> None:
    message = refusal("+task", "=", "sentiment")
    assert message.startswith("'=' stands alone. Type +task=sentiment, without spaces.")


def test_a_key_that_is_like_no_other_is_sent_to_the_list() -> None:
    assert refusal(TASK, "qqq=3").endswith("nlp-transfer options qqq searches them.")


def test_unknown_keys_are_reported_together() -> None:
    message = refusal(TASK, "sed=1", "+training.bach_size=3", "++dataset.txt=body", "~stratgy")
    assert [line.split()[0] for line in message.splitlines()] == [
        "sed",
        "training.bach_size",
        "dataset.txt",
        "stratgy",
    ]


def test_wrong_types_impossible_and_missing_values_are_reported_together() -> None:
    # No task, either.
    message = refusal("seed=x", "training.batch_size=0", "training.warmup=2", "checkpoint.name=[1]")
    lines = message.splitlines()
    for start in (
        "seed='x'",
        "checkpoint.name=[1]",
        "No task is given",
        "training.batch_size=0",
        "training.warmup=2",
        "dataset.train is missing",
    ):
        assert sum(line.startswith(start) for line in lines) == 1, start
    assert len(lines) == 6
    assert refusal("dataset.train=a.csv", "dataset=files") == (
        "No task is given. For files of your own, add +task=classify."
    )


IMPOSSIBLE = [
    (("dataset.train=my.csv",), r"dataset.train='my.csv' is a file.*embedded:reviews.*files"),
    (("dataset.test=my.JSONL",), r"dataset.test='my.JSONL' is a file.*dataset=files"),
    (("dataset=files",), r"dataset.train is missing.*dataset.train=reviews.csv"),
    (("strategy.learning_rate=0.01",), r"strategy.learning_rate=0.01 would destroy.*0.001.*allow"),
    (
        ("strategy=full", "strategy.stages.all.encoder_learning_rate=0.01"),
        r"strategy.stages.all.encoder_learning_rate=0.01 would destroy",
    ),
    (("strategy.stages.head.epochs=4",), r"head.layers is missing: strategy=auto chooses its"),
    (("strategy=lora", "strategy.stages.adapters.lora_rank=-1"), "lora_rank=-1 must be at least 0"),
    (
        ("strategy=feature_extraction", "strategy.stages.head.lora_rank=4"),
        r"strategy.stages.head.lora_rank=4 has nothing to adapt",
    ),
    (
        ("strategy=full", "strategy.stages.all.max_steps=9"),
        r"all.max_steps=9 is a bound of steps_per_shot, which is not set",
    ),
    (("strategy.min_steps=-1",), r"strategy.min_steps=-1 must be a number that is not negative"),
    (("strategy.top_layers=2",), r"strategy.top_layers=2 has no stage.*strategy=top_layers"),
    (("strategy=two_phase", "strategy.top_layers=2"), r"top_layers=2 has no stage to apply to"),
    (("strategy=top_layers", "strategy.top_layers=0"), r"strategy.top_layers=0 must be at least 1"),
    (("strategy=full", "~strategy.stages.all"), r"strategy full has no stages"),
    (
        ("strategy.stages.all.layers=foo",),
        r"stages.all.layers='foo' must be all, encoder, 0 .* or a number",
    ),
    (("strategy.stages.all.layers=-1",), r"strategy.stages.all.layers='-1' must be all"),
    (
        ("strategy=full", "+strategy.stages.hed.epochs=3"),
        r"stages.hed.layers is missing.* all, hed",
    ),
    (
        ("evaluation.best=f1",),
        r"evaluation.best='f1' is not measured.*accuracy, f1_macro",
    ),
    (("evaluation.metrics=[]",), r"evaluation.metrics is empty"),
    (
        ("training.batch_size=4", "training.micro_batch_size=8"),
        r"training.micro_batch_size=8 is larger than training.batch_size=4",
    ),
    (("dataset.validation_fraction=0",), r"validation_fraction=0 leaves nothing to choose"),
    # The libraries' generators take 32 bits.
    (("seed=4294967296",), r"seed=4294967296"),
]


@pytest.mark.parametrize(
    ("overrides", "expected"), IMPOSSIBLE, ids=[" ".join(overrides) for overrides, _ in IMPOSSIBLE]
)
def test_what_is_impossible_is_refused_and_says_why(
    overrides: tuple[str, ...], expected: str
) -> None:
    message = refusal(TASK, *overrides)
    assert re.search(expected, message), message
    assert len(message.splitlines()) == 1, message


SHARES = (
    "checkpoint.dropout",
    "dataset.validation_fraction",
    "dataset.test_fraction",
    "training.warmup",
    "training.label_smoothing",
)
COUNTS = (
    "dataset.limit",
    "tokenization.max_length",
    "training.batch_size",
    "training.micro_batch_size",
    "training.early_stopping",
    "training.threads",
    "evaluation.max_tokens",
)
POSITIVE = (
    "strategy.epochs",
    "strategy.learning_rate",
    "strategy.stages.all.epochs",
    "strategy.stages.all.encoder_learning_rate",
    "strategy.stages.all.head_learning_rate",
)
NOT_NEGATIVE = ("training.weight_decay", "training.max_grad_norm")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (SHARES, "-0.1"),
        (SHARES, "1"),
        (SHARES, "nan"),
        (COUNTS, "0"),
        (COUNTS, "-1"),
        (POSITIVE, "0"),
        (POSITIVE, "-1"),
        (("seed", "export.verify_rows", *NOT_NEGATIVE), "-1"),
        # Of the right type, and still no amount of anything.
        (POSITIVE, "nan"),
        (POSITIVE, "inf"),
        (NOT_NEGATIVE, "nan"),
        (NOT_NEGATIVE, "inf"),
        (("strategy.stages.all.layer_decay",), "0"),
        (("strategy.stages.all.layer_decay",), "1.5"),
        (("strategy.stages.all.layer_decay",), "nan"),
    ],
)
def test_numbers_out_of_their_range_are_refused_by_name(keys: tuple[str, ...], value: str) -> None:
    # A stage's own keys need not stand in the strategy's YAML.
    lines = refusal(TASK, *(f"++{key}={value}" for key in keys)).splitlines()
    pattern = re.compile(rf"={re.escape(value)}(\.0)? ")
    accepted = [
        key
        for key in keys
        if not any(line.startswith(f"{key}=") and pattern.search(line) for line in lines)
    ]
    assert accepted == []


@pytest.mark.parametrize(
    "overrides",
    [
        ("strategy.learning_rate=0.001",),
        ("strategy.learning_rate=0.01", "strategy.allow_destructive_rate=true"),
        ("strategy=feature_extraction", "strategy.learning_rate=0.01"),
        ("strategy=gradual_unfreezing", "strategy.top_layers=1"),
        ("training.batch_size=8", "training.micro_batch_size=8"),
        ("training.warmup=0", "training.label_smoothing=0", "checkpoint.dropout=0"),
        ("dataset.test_fraction=0", "export.verify_rows=0", "seed=0"),
        ("evaluation.metrics=[f1]", "evaluation.best=f1"),
        ("strategy.epochs=0.5",),
        ("seed=4294967295",),
    ],
    ids=" ".join,
)
def test_what_is_just_possible_is_accepted(overrides: tuple[str, ...]) -> None:
    compose(TASK, *overrides)


def test_a_stage_is_changed_by_its_name() -> None:
    stages = compose(TASK, "strategy=two_phase", "strategy.stages.head.epochs=3").strategy.stages
    assert list(stages) == ["head", "all"]
    assert (stages["head"].epochs, stages["all"].epochs) == (3.0, 2.0)
    assert stages["head"].layers == "0"


def test_a_key_that_the_strategy_leaves_at_its_default_can_be_set() -> None:
    stages = compose(TASK, "strategy=full", "strategy.stages.all.layer_decay=0.9").strategy.stages
    assert stages[STAGE].layer_decay == 0.9


def test_a_stage_can_be_added() -> None:
    more = "+strategy.stages.more={layers: 1, epochs: 2}"
    stages = compose(TASK, "strategy=full", more).strategy.stages
    assert {name: stage.layers for name, stage in stages.items()} == {"all": "all", "more": "1"}


def test_values_arrive_with_their_types() -> None:
    config = compose(
        TASK,
        "training.precision=bf16",
        "strategy.learning_rate=2e-5",
        "training.micro_batch_size=8",
        "checkpoint.revision=5",
        "training.cpu=true",
        "evaluation.metrics=[accuracy]",
    )
    assert config.training.precision is Precision.bf16
    assert config.strategy.learning_rate == 2e-5
    assert config.training.micro_batch_size == 8
    assert config.checkpoint.revision == "5"  # the name of a revision is a text
    assert config.training.cpu is True
    assert config.evaluation.metrics == ["accuracy"]


def test_names_of_numbered_labels_arrive_with_text_keys() -> None:
    assert compose(TASK, "dataset.label_names={0: ham, 1: spam}").dataset.label_names == {
        "0": "ham",
        "1": "spam",
    }


def write_strategy(folder: Path, text: str) -> Path:
    """A person's own `strategy=mine`."""
    (folder / "strategy").mkdir()
    (folder / "strategy" / "mine.yaml").write_text(text, encoding="utf-8")
    return folder


def test_a_strategy_of_ones_own_is_a_yaml_file(tmp_path: Path) -> None:
    text = "name: mine\nstages:\n  low: {layers: 1, epochs: 7}\n  high: {layers: all}\n"
    config = compose(TASK, "strategy=mine", config_dir=write_strategy(tmp_path, text))
    assert config.strategy.name == "mine"
    assert list(config.strategy.stages) == ["low", "high"]
    assert config.strategy.stages["low"].epochs == 7.0
    assert config.strategy.stages["low"].layers == "1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: mine\nstages: {all: {layers: all, epocs: 3}}\n",
            r"all\.epocs .*\.epochs\.",
        ),
        ("name: mine\nstags: {all: {layers: all}}\n", r"strategy\.stags .*strategy\.stages\."),
        ("name: mine\nstages: {all: {layers: all, epochs: x}}\n", r"stages\.all\.epochs='x'"),
        ("name: mine\nstages: {all: {epochs: 3}}\n", r"strategy\.stages\.all\.layers is missing"),
        ("stages: {all: {layers: all}}\n", r"strategy\.name is missing"),
        ("name: mine\n", r"strategy mine has no stages"),
    ],
)
def test_what_is_wrong_in_a_yaml_of_ones_own_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    folder = write_strategy(tmp_path, text)
    assert re.search(message, refusal(TASK, "strategy=mine", config_dir=folder))


def options(group: str) -> list[Path]:
    """The YAML files of a group."""
    folder = Path(str(resources.files(CONFIG_MODULE).joinpath(group)))
    return sorted(folder.glob("*.yaml"))


OPTIONS = [(group, file.stem) for group in GROUPS for file in options(group)]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_every_group_composes(group: str, option: str) -> None:
    chosen = [f"{'+' if group in ADDED_GROUPS else ''}{group}={option}"]
    task = [] if group == "task" else [TASK]
    # Your own texts have no default: the person names the file.
    files = ["dataset.train=x.csv"] if option in ("files", "classify") else []
    config = compose(*task, *chosen, *files)
    match group:
        case "task":
            assert config.task == option
        case "strategy":
            assert config.strategy.name == option
            assert bool(config.strategy.stages) == (option != "auto")
        case "checkpoint":
            assert config.checkpoint.name
        case "dataset":
            assert (config.dataset.name is None) == (option == "files")
        case "search":
            assert not config.evaluation.test


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_the_comment_of_every_yaml_is_its_line_in_the_help(group: str, option: str) -> None:
    file = next(file for file in options(group) if file.stem == option)
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = next(line for line in lines if not line.startswith("# @package"))
    assert comment.startswith("# ")
    help_lines = [line for line in help_text().splitlines() if line.split()[:1] == [option]]
    assert [line for line in help_lines if line.strip().endswith(comment.removeprefix("# "))]


def test_streaming_is_refused_with_the_reason() -> None:
    with pytest.raises(UserError, match=r"dataset.streaming is not a key: data are not streamed"):
        compose("+task=sentiment", "dataset.streaming=true")


def test_a_folder_of_configurations_that_is_absent_is_named_and_a_strategy_of_ones_own_is_offered(
    tmp_path: Path,
) -> None:
    absent = tmp_path / "absent"
    with pytest.raises(UserError, match="absent: there is no such folder"):
        compose(TASK, "strategy=mine", config_dir=absent)
    assert "One of your own is FOLDER/strategy/mine.yaml" in refusal(TASK, "strategy=mine")


def test_overrides_in_a_list_are_told_how_they_are_given() -> None:
    with pytest.raises(UserError, match=r"found list: .*compose\(\*overrides\)"):
        compose([TASK, "strategy=full"])  # type: ignore[arg-type]
