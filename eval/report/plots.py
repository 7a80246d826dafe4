"""Curves of `dlm bench` as inline SVG."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from dlm_control.support.errors import UsageError


def curves(bench: dict[str, Any]) -> dict[str, str]:
    """Title, legend and SVG of a bench file; without matplotlib, what installs it in place of the picture."""
    title, caption = str(bench["title"]), str(bench["caption"])
    try:
        command, picture = str(bench["command"]), svg(lambda axes: draw(axes, bench))
        return {"title": title, "caption": caption, "command": command, "svg": picture}
    except UsageError as error:
        return {"title": title, "caption": caption, "command": str(bench["command"]), "svg": "", "missing": str(error)}


def draw(axes: Any, bench: dict[str, Any]) -> None:
    """One line for each series of points (x, y), each point with its label."""
    for name, points in bench["series"].items():
        marks = "o-" if bench.get("joined", True) else "o"
        axes.plot([p["x"] for p in points], [p["y"] for p in points], marks, label=name, markersize=4)
        for point in points:
            if point.get("label"):
                axes.annotate(point["label"], (point["x"], point["y"]), fontsize=7, xytext=(3, 3), textcoords="offset points")
    axes.set_xlabel(bench["x"])
    axes.set_ylabel(bench["y"])
    if bench.get("log"):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def svg(paint: Callable[[Any], None]) -> str:
    """What `paint` draws on axes, as SVG without an XML head.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise UsageError("matplotlib is not installed; pip install 'dlm-control[plot]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "dlm-control"  # the same picture is the same file
    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    paint(axes)
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    whole = target.getvalue()
    return whole[whole.index("<svg") :]
