"""The same run again gives the same figures, or says why not."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_rows, write_csv

from nlp_transfer.analysis.reproduce import repeat
from nlp_transfer.cli.main import main
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.runs.provenance import differences


def changed(folder: Path, **entries: Any) -> None:
    file = folder / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


def test_a_run_repeats_to_the_last_digit_and_what_differs_is_named(
    finished: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("nlp_transfer")
    logger.addHandler(caplog.handler)
    main(["repeat", str(finished), "--out", "again"])
    logger.removeHandler(caplog.handler)
    assert "is unfinished" not in caplog.text  # it is new
    assert "epoch 1" in caplog.text
    output = capsys.readouterr().out
    assert "every metric is the same to the last digit" in output
    assert "largest difference of a logit: 0" in output
    one, other = (json.loads((f / "metrics.json").read_text()) for f in (finished, Path("again")))
    assert one == other
    for split in ("validation", "test"):
        files = [
            np.load(f / f"predictions/{split}.npz")["logits"] for f in (finished, Path("again"))
        ]
        np.testing.assert_array_equal(*files)
    about = [json.loads((f / "run.json").read_text()) for f in (finished, Path("again"))]
    for name in ("decisions", "versions", "machine", "checkpoint", "corpus", "predictions"):
        assert about[0][name] == about[1][name], name
    assert not list(Path.cwd().glob("runs*"))  # its stores are gone with it
    # The same command again reads what is there. What differed is told, whatever came of it.
    other_figures = Path(shutil.copytree(finished, "other"))
    measured = {
        **one,
        "test": {**one["test"], "metrics": {**one["test"]["metrics"], "accuracy": 2}},
    }
    (other_figures / "metrics.json").write_text(json.dumps(measured))
    changed(other_figures, versions={**about[0]["versions"], "torch": "1.0"})
    with pytest.raises(SystemExit) as leaving:
        main(["repeat", "other", "--out", "again"])
    assert leaving.value.code == ExitCode.DIFFERENT
    output = capsys.readouterr().out
    assert f"versions torch: 1.0 there, {about[0]['versions']['torch']} here" in output
    assert f"test accuracy: 2 there, {one['test']['metrics']['accuracy']} here" in output


def test_what_auto_decided_is_read(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Path(shutil.copytree(finished, "before"))
    decided = {"precision": "bf16", "strategy": "full"}
    changed(before, decisions=decided)
    records: list[dict[str, Any]] = []

    def looked_at(*_: Any) -> None:
        records.append(json.loads(Path("before-repeat/run.json").read_text()))
        raise UserError(ExitCode.STOPPED, "seen enough")

    monkeypatch.setattr("nlp_transfer.analysis.reproduce.run_and_print", looked_at)
    for _ in range(2):  # interrupted, it goes on with the same
        with pytest.raises(UserError, match="seen enough"):
            repeat(before)
    assert [record["decisions"] for record in records] == [decided, decided]
    assert {record["state"] for record in records} == {"unfinished"}


def test_other_data_or_another_checkpoint_are_refused_before_anything_is_trained(
    finished: Path, tmp_path: Path
) -> None:
    before = Path(shutil.copytree(finished, "before"))
    file = write_csv(tmp_path / "test.csv", make_rows(400, seed=10))
    config = (before / "config.yaml").read_text()
    (before / "config.yaml").write_text(
        config.replace(str(finished.parent / "test.csv"), str(file))
    )
    about = json.loads((before / "run.json").read_text())
    changed(before, checkpoint={**about["checkpoint"], "weights": "0" * 64})
    with pytest.raises(UserError, match="checkpoint weights: 0000") as refused:
        repeat(before)
    assert "corpus: " in str(refused.value)
    assert refused.value.code is ExitCode.DATA
    assert not Path("before-repeat").exists()


def test_differences_are_named_by_where_they_are() -> None:
    there = {"versions": {"a": "1", "b": "2"}, "corpus": "x"}
    here = {"versions": {"a": "1", "b": "3", "c": "4"}, "corpus": "x"}
    assert differences(there, here) == [
        "versions b: 2 there, 3 here",
        "versions c: None there, 4 here",
    ]
    assert differences(there, there) == []
