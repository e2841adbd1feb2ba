"""The results as a picture: how many times better than each other contender, number by number."""

from pathlib import Path

from benchmarks.kinds import Kind
from benchmarks.results import Results, measured_metrics, times_better

_COLOURS = ("tab:blue", "tab:orange", "tab:green")


def draw(results: Results, kinds: list[Kind], contenders: list[str], file: Path) -> bool:
    """Write the picture, as SVG or what the file's name says; False when there is nothing to compare."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "predictord"  # the same numbers make the same file
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
    from matplotlib import pyplot

    first, *others = contenders
    rows = [
        (kind, metric)
        for kind, metric in measured_metrics(results, kinds, contenders)
        if any(results.ratio(kind.name, metric.key, first, name) for name in others)
    ]
    if not rows:
        return False
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.3 * len(rows)), layout="constrained")
    for name, colour in zip(others, _COLOURS, strict=False):
        for place, (kind, metric) in enumerate(rows):
            ratio = results.ratio(kind.name, metric.key, first, name)
            if ratio is None:
                continue
            median, one, other = (times_better(metric, value) for value in ratio)
            axes.plot([one, other], [place, place], color=colour, alpha=0.4, linewidth=5, solid_capstyle="round")
            axes.plot([median], [place], "o", color=colour)
        axes.plot([], [], "o", color=colour, label=f"than {name}")
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}×" if f"{value:e}"[0] in "25" else "")
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.set_yticks(range(len(rows)), [f"{kind.title}: {metric.label}" for kind, metric in rows], fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(f"{first}, times better: median and range of the rounds", fontsize=10)
    axes.legend(fontsize=8, loc="best")
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    return True
