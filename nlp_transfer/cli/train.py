"""`nlp-transfer train`: Hydra composes, `to_config` checks, `pipeline.run` runs.

nlp-transfer train +task=sentiment strategy=two_phase training.batch_size=16
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nlp_transfer.cli.arguments import fail
from nlp_transfer.cli.sweep import (
    SWEEP_FLAGS,
    in_a_sweep,
    is_sweep,
    note_failure,
    note_job,
    summary,
    sweep_folder,
)
from nlp_transfer.config.composition import (
    check_keys,
    refuse_several_values,
    with_quotes,
    with_stage_keys,
)
from nlp_transfer.config.groups import (
    ADDED_GROUPS,
    CONFIG_MODULE,
    GROUPS,
    group_options,
    with_plus,
)
from nlp_transfer.config.hints import unknown_flag, value_of_flag
from nlp_transfer.config.loading import to_config
from nlp_transfer.config.schema import Config, plain
from nlp_transfer.config.sections.delivery import HubConfig
from nlp_transfer.errors import ExitCode, UserError, of_the_disk
from nlp_transfer.network import refuse_unreachable_checkpoint
from nlp_transfer.utils.imports import quick_imports
from nlp_transfer.utils.terminal import refuse_undecoded, replace_unprintable

if TYPE_CHECKING:
    from nlp_transfer.data.corpus import Corpus

PROGRAM = "nlp-transfer train"
# Hydra's own.
FLAGS_WITH_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--info", "-i", "--experimental-rerun"),
}
FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r"),
    *(*SWEEP_FLAGS, "--shell-completion", "-sc"),
}

# Read when torch is imported. Torch and oneDNN keep a kernel for each shape, 1,024 of them: batches
# of many lengths took 250 MB of them on a CPU.
KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
KERNELS_KEPT = "128"
_BEGAN: list[float] = []  # the command, by the monotonic clock; Hydra calls without arguments


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit codes are those of `ExitCode`."""
    _BEGAN.append(time.monotonic())
    arguments = with_plus(with_quotes(sys.argv[1:] if arguments is None else arguments))
    sys.argv[1:] = arguments  # where Hydra reads them
    replace_unprintable()
    if "--help" in arguments or "-h" in arguments:
        print(help_text(_config_dir(arguments)))
        return
    # Hydra would print errors its own way and exit with 1 whatever happened.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    for variable in KERNEL_CACHES:
        os.environ.setdefault(variable, KERNELS_KEPT)
    try:
        refuse_undecoded(arguments)
        _refuse_a_sweep_of_many_processes(arguments)
        overrides = overrides_of(arguments)
        check_keys(overrides, _config_dir(arguments))
        if is_sweep(arguments):
            _sweep(arguments)
        else:
            refuse_several_values(overrides)
            sys.argv[1:] = with_stage_keys(arguments)
            _compose_and_run()
    except UserError as error:
        fail(error.code, str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(ExitCode.CONFIG, str(error))
    except KeyboardInterrupt:
        fail(130, "Interrupted.")


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """The arguments that are not Hydra's flags.

    Raises:
        UserError: at a flag that Hydra does not have, with the option that is meant.
    """
    overrides, problems = [], []
    words = iter(enumerate(arguments))
    for place, word in words:
        flag, _, value = word.partition("=")
        if not word.startswith("-"):
            overrides.append(word)
        elif flag in FLAGS_WITH_VALUE:
            if not value:
                next(words, None)
        elif flag not in FLAGS:
            following = value_of_flag(arguments, place)
            if following and not value:
                next(words)
            problems.append(
                unknown_flag(flag, following, PROGRAM, sorted(FLAGS | FLAGS_WITH_VALUE))
            )
    if problems:
        raise UserError(ExitCode.CONFIG, "\n".join(problems))
    return overrides


def help_text(config_dir: str | None = None) -> str:
    """What can be chosen, one line each: the first comment of every YAML file.

    Args:
        config_dir: a folder with YAML groups of your own, listed with the others.
    """
    lines = [
        "Fine-tune a pretrained encoder into a text classifier.",
        "",
        f"  {PROGRAM} +task=sentiment",
        f"  {PROGRAM} +task=classify dataset.train=my.csv checkpoint=distilbert",
    ]
    for group in GROUPS:
        plus = "+" if group in ADDED_GROUPS else ""
        lines += ["", f"{plus}{group}=NAME"]
        for name, sentence in group_options(group, config_dir):
            lines.append(f"  {name:<20} {sentence}")
    lines += [
        "",
        "The options:  nlp-transfer options [WORD]   Every key with its value:  --cfg job",
        "The plan, nothing trained: dry_run=true     Several runs:  --multirun seed=1,2,3",
        "Groups of your own:  --config-dir DIR       Hydra's own flags:  --hydra-help",
    ]
    return "\n".join(lines)


def _config_dir(arguments: Sequence[str]) -> str | None:
    """The value of --config-dir."""
    for word, following in zip(arguments, [*arguments[1:], None], strict=False):
        flag, _, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            return value or following
    return None


def _sweep(arguments: list[str]) -> None:
    """Several runs, and what they gave, also where one of them failed."""
    with tempfile.TemporaryDirectory() as temporary:
        planned = "dry_run=true" in arguments  # which leaves nothing
        folder = Path(temporary) if planned else sweep_folder(arguments)
        sys.argv[1:] = with_stage_keys(_with_sweep_dir(arguments, folder))
        try:
            _compose_and_run()
        finally:
            if not planned:
                print(summary(folder), flush=True)


@hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name="train")
def _compose_and_run(tree: DictConfig) -> float:
    try:
        config = to_config(plain(tree))
        _refuse_a_sweep_of_uploads(config)
        read = cache(partial(_read_data, config))
        if not in_a_sweep() and (best := _show_finished(config, read)) is not None:
            return best
        refuse_unreachable_checkpoint(config.checkpoint.name, config.checkpoint.revision)
        corpus = read()
        # These import torch, which `--help`, a finished run and refused data need not wait for.
        with quick_imports():
            from nlp_transfer.pipeline import run_and_print
            from nlp_transfer.training.forecast.budget import command_began
            from nlp_transfer.training.optimization.signals import handle_signals

        with handle_signals(), command_began(_BEGAN[-1]):
            result = run_and_print(config, corpus=corpus)
    except (UserError, OSError) as error:
        refusal = of_the_disk(error) if isinstance(error, OSError) else error
        if refusal is None:
            raise
        # The sweep goes on and reports it at its end, unless it is to stop.
        if in_a_sweep() and refusal.code != ExitCode.STOPPED:
            note_failure(refusal)
            raise refusal from error
        fail(refusal.code, str(refusal))
        raise
    if in_a_sweep() and not config.dry_run:
        note_job(result.chosen_by, result.folder, result.best, result.previous_state)
    return result.best


def _read_data(config: Config) -> Corpus:
    """The data of a run, without torch.

    Raises:
        UserError: for data that cannot be used, and for a metric that they are not measured by.
    """
    with quick_imports():
        from nlp_transfer.data.corpus import load_run_corpus
        from nlp_transfer.evaluation.metric_set import refuse_unknown_metrics

    refuse_unknown_metrics(config.evaluation)
    return load_run_corpus(config)


def _show_finished(config: Config, read: Callable[[], Corpus]) -> float | None:
    """Print the summary of a run that is finished already, as `run_and_print` does, without torch.

    Args:
        read: the data, where a finished run is in question.

    Returns:
        The metric that chose; None: there is something to do, which is for the pipeline.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several or config.overwrite or config.dry_run or config.hub != HubConfig():
        return None
    from nlp_transfer.analysis.finished_runs import find_finished
    from nlp_transfer.reporting import console
    from nlp_transfer.reporting.card.examples import shows_examples
    from nlp_transfer.reporting.drawing import draw_report

    finished = find_finished(config, read)
    if finished is None or shows_examples(finished[0].folder / "model" / "README.md"):
        return None
    run, corpus = finished
    print(f"{run.folder} is finished (overwrite=true starts it again)", file=sys.stderr)
    draw_report(run.folder)
    print(console.summary(run.about, run.measured, run.folder), flush=True)
    best = run.measured[corpus.deciding_split]["metrics"][run.metric]
    return float("nan") if best is None else best


def _refuse_a_sweep_of_many_processes(arguments: list[str]) -> None:
    if is_sweep(arguments) and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            ExitCode.CONFIG,
            "--multirun does not work inside a launch of several processes: their group cannot be "
            "formed a second time. Start one torchrun for each run.",
        )


def _refuse_a_sweep_of_uploads(config: Config) -> None:
    if in_a_sweep() and config.hub.repository is not None:
        raise UserError(
            ExitCode.CONFIG,
            f"hub.repository={config.hub.repository} does not go with --multirun: every run would "
            "be uploaded, one after another. Leave it out, and upload the run you choose: "
            f"nlp-transfer push RUN --repository {config.hub.repository}",
        )


def _with_sweep_dir(arguments: list[str], folder: Path) -> list[str]:
    """Where Hydra's own files of a sweep go: runs have folders of their own.

    Hydra's parser takes overrides in one row only: --multirun may not stand among them.
    """
    others = [a for a in arguments if a not in SWEEP_FLAGS]
    overrides = [i for i, a in enumerate(others) if "=" in a and not a.startswith("-")]
    at = overrides[0] if overrides else len(others)
    return [SWEEP_FLAGS[0], *others[:at], f"hydra.sweep.dir={folder}", *others[at:]]


if __name__ == "__main__":
    main()
