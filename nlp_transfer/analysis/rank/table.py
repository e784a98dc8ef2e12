"""A ranking of checkpoints as tables of the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from nlp_transfer.analysis.rank.ranking import Candidate, Ranking, Scores
from nlp_transfer.evaluation.intervals.significance import LEVEL
from nlp_transfer.reporting.html.plots import frontier
from nlp_transfer.reporting.html.small_page import as_written, small_page
from nlp_transfer.utils.text import COLUMNS, aligned, wrapped

NAME = 24  # columns of a checkpoint's name, less where the table would be too wide


def ranking_text(ranking: Ranking) -> str:
    """Scores, costs, failures and commands; tables within 80 columns."""
    scored = [each for each in ranking.candidates if each.best is not None]
    lines: list[str] = []
    if scored:
        wide = max(map(len, _scores(ranking, scored, NAME)))
        width = NAME - max(wide - COLUMNS, 0)
        lines += [*_scores(ranking, scored, width), "", *_costs(scored, width), ""]
        lines += [*_verdict(ranking, scored), ""]
    for each in ranking.candidates:
        if each.failed is not None:
            lines += wrapped(f"{_name(each)} failed: {each.failed}")
    if ranking.by_layer:
        lines += [line for each in scored for line in _layers(ranking, each)]
    lines += ["Train the best one:" if len(scored) == 1 else "Train one of them:"] if scored else []
    lines += [f"  {each.command}" for each in scored]
    return "\n".join(lines)


def ranking_page(ranking: Ranking) -> str:
    """The same tables, and accuracy against speed."""
    points = [
        (_name(each), each.costs.ms_in_batch, each.best.cross_validated, each.best.interval)
        for each in ranking.candidates
        if each.best is not None and each.costs is not None
    ]
    figure = [str(frontier(points, ranking.metric))] if points else []
    return small_page("Checkpoints, ranked", [*figure, as_written(ranking_text(ranking))])


def _scores(ranking: Ranking, scored: list[Candidate], width: int) -> Iterator[str]:
    header = ["checkpoint", ranking.metric, "reads", "kNN", "LogME", "H-score", ""]
    yield from aligned([header, *(_row(ranking, each, width) for each in scored)])


def _row(ranking: Ranking, candidate: Candidate, width: int) -> list[str]:
    best = candidate.best
    assert best is not None
    first = next(each for each in ranking.candidates if each.best is not None)
    mark = "tie" if candidate.tied else ("best" if candidate is first else "")
    layer = f" {best.layer}/{candidate.layers}" if ranking.by_layer else ""
    others = map(_figure, (best.neighbours, best.logme, best.h_score))
    name, score = _name(candidate, width), _with_interval(best)
    return [name, score, f"{best.pooling}{layer}", *others, mark]


def _costs(scored: list[Candidate], width: int) -> Iterator[str]:
    rows = [["checkpoint", "params", "MB", "ms x1", "ms x32", "tokens", "licence"]]
    for each in scored:
        costs = each.costs
        assert costs is not None
        rows.append(
            [
                _name(each, width),
                f"{costs.parameters / 1e6:.1f}M",
                f"{costs.megabytes:,.0f}",
                f"{costs.ms_alone:.1f}",
                f"{costs.ms_in_batch:.1f}",
                f"{costs.longest_input:,}",
                (costs.licence or "unknown")[:18],
            ]
        )
    yield from aligned(rows)


def _verdict(ranking: Ranking, scored: list[Candidate]) -> Iterator[str]:
    of = "" if ranking.rows == ranking.of_rows else f" of {ranking.of_rows:,}"
    yield from wrapped(
        f"{ranking.metric}: a solved head on frozen features, cross-validated on {ranking.rows:,}"
        f"{of} rows of train, in brackets 95% intervals. kNN: {ranking.metric} by the vote of the "
        "nearest rows. ms: a text at batch 1 and 32, on this machine."
    )
    tied = [_name(each) for each in scored if each.tied]
    if tied:
        yield from wrapped(
            f"These rows cannot tell {', '.join(tied)} from {_name(scored[0])}; they are in the "
            "order of LogME. Choose among them by size and speed, too, or label more rows."
        )


def _layers(ranking: Ranking, candidate: Candidate) -> Iterator[str]:
    """The better pooling of each layer."""
    best, layers = candidate.best, candidate.layers
    assert best is not None
    yield f"{_name(candidate)} by layer:"
    rows = [["  layer", ranking.metric, "reads", "kNN", "LogME", "H-score"]]
    for depth in range(1, layers + 1):
        here = [scores for scores in candidate.scores if scores.layer == depth]
        sign = 1 if ranking.greater_is_better else -1
        top = max(here, key=lambda scores: sign * scores.cross_validated)
        figures = map(_figure, (top.neighbours, top.logme, top.h_score))
        rows.append([f"  {depth}", _with_interval(top), top.pooling, *figures])
    yield from aligned(rows)
    if candidate.gain is not None:
        low, high = candidate.gain.interval
        sure = "" if candidate.gain.p < LEVEL else ", which may be chance"
        yield from wrapped(
            f"  Layer {best.layer} of {layers} scores best ({candidate.gain.value:+.3f} "
            f"[{low:+.3f}, {high:+.3f}] over the last{sure}): "
            f"checkpoint.layers={best.layer} reads it, strategy=top_layers "
            f"strategy.top_layers={layers - best.layer} lets the layers above it learn."
        )
    yield ""


def _with_interval(scores: Scores) -> str:
    value = f"{scores.cross_validated:.3f}"
    if scores.interval is None:
        return value
    return f"{value} [{scores.interval[0]:.3f}, {scores.interval[1]:.3f}]"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _name(candidate: Candidate, width: int = NAME) -> str:
    """The end of a long name says more than its beginning."""
    name = candidate.name
    return name if len(name) <= width else f"…{name[-width + 1 :]}"
