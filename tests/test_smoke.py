"""The shortest way through everything: a run is trained, exported, verified and answers."""

from __future__ import annotations

from collections.abc import Callable

from nlp_transfer import Classifier, compose, run


def test_a_run_is_trained_exported_and_answers(typed: Callable[..., list[str]]) -> None:
    result = run(compose(*typed("strategy.epochs=1", "run_dir=run", "export.fresh_process=true")))
    assert set(result.metrics) == {"validation", "test"}
    assert len(Classifier.load(result.model).predict(["a lovely film", "a boring book"])) == 2
