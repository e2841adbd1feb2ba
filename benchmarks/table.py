"""The results as a table in Markdown."""

from benchmarks.kinds import Kind, Metric
from benchmarks.results import Results, Spread, measured_metrics


def markdown(results: Results, kinds: list[Kind], contenders: list[str], preface: str) -> str:
    """A row for each number: medians with least and most, and how the first contender's compare to the others'."""
    first, *others = contenders
    heads = ["", "unit", first, *(cell for name in others for cell in (name, f"{first} / {name}"))]
    lines = [preface, "", _row(heads), _row(["---", "---", *["---:"] * (len(heads) - 2)])]
    for kind, metric in measured_metrics(results, kinds, contenders):
        cells = [f"{kind.title}: {metric.label}", metric.unit, _number(results.spread(kind.name, first, metric.key))]
        for name in others:
            cells.append(_number(results.spread(kind.name, name, metric.key)))
            cells.append(_ratio(metric, results.ratio(kind.name, metric.key, first, name)))
        lines.append(_row(cells))
    if results.failures:
        lines += ["", "Failed:", "", *(f"* {failure}" for failure in results.failures)]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return f"{_short(spread.median)} ({_short(spread.least)}–{_short(spread.most)})"


def _ratio(metric: Metric, spread: Spread | None) -> str:
    if spread is None:
        return "–"
    better = spread.median >= 1 if metric.more_is_better else spread.median <= 1
    return f"**{spread.median:.2f}**" if better else f"{spread.median:.2f}"


def _short(value: float) -> str:
    """Three digits that say something."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
