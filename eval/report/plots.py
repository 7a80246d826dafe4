"""Curves of `dlm bench` as inline SVG."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple

from dlm_control.eval.records import Curves
from dlm_control.support.errors import UsageError


class Picture(NamedTuple):
    """Curves, as a page shows them.

    Attributes:
        title, caption, command: as in `Curves`.
        svg: the picture; empty where it cannot be drawn.
        missing: what installs matplotlib, where it is missing.
    """

    title: str
    caption: str
    command: str
    svg: str
    missing: str = ""


def picture(curves: Curves) -> Picture:
    """Measured curves with their picture; without matplotlib, what installs it in place of the picture."""
    try:
        return Picture(curves.title, curves.caption, curves.command, svg(lambda axes: draw(axes, curves)))
    except UsageError as error:
        return Picture(curves.title, curves.caption, curves.command, "", str(error))


def draw(axes: Any, curves: Curves) -> None:
    """One line for each series of points, each point with its label."""
    for name, points in curves.series.items():
        marks = "o-" if curves.joined else "o"
        axes.plot([p.x for p in points], [p.y for p in points], marks, label=name, markersize=4)
        for point in points:
            if point.label:
                axes.annotate(point.label, (point.x, point.y), fontsize=7, xytext=(3, 3), textcoords="offset points")
    axes.set_xlabel(curves.x)
    axes.set_ylabel(curves.y)
    if curves.log:
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
