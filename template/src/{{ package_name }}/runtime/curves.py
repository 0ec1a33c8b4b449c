"""A plot of the metrics of a run: each by step, on a linear or logarithmic scale."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HIDDEN = ("step", "time", "share_of_peak")  # not plotted, nor are rates per second
COLORS = {"training": "#4878a8", "validation": "#d1603d"}
MARKED = 60  # points of a curve up to which each has a marker
DECADES = 1.5  # range of values from which a scale is logarithmic


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file of metrics, except lines that cannot be read."""
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "step" in record:
            yield record


def read_curves(path: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Return the values in a file of metrics by figure, set (training or validation) and step."""
    curves: dict[str, dict[str, dict[int, float]]] = {}
    for record in read_metrics(path):
        for name, value in record.items():
            if name not in HIDDEN and not name.endswith("_per_second"):
                figure = name.partition("validation_")[2] or name
                kind = "training" if figure == name else "validation"
                curves.setdefault(figure, {}).setdefault(kind, {})[record["step"]] = value
    return curves


def draw_curves(folder: Path) -> Path:
    """Draw curves.png in the folder of a run, and return its path.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There are no metrics.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    curves = read_curves(folder / "metrics.jsonl")
    if not curves:
        raise ValueError("there are no metrics")
    columns = min(len(curves), 2)
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(5.2 * columns, 3.2 * rows), dpi=120, layout="constrained")
    figure.suptitle(folder.resolve().name, parse_math=False)
    measured_first = sorted(curves.items(), key=lambda item: "validation" not in item[1])
    for position, (name, sets) in enumerate(measured_first, start=1):
        axes = figure.add_subplot(rows, columns, position)
        for kind, curve in sets.items():
            steps, values = list(curve), list(curve.values())
            mark = "o" if len(steps) <= MARKED else ""
            (line,) = axes.plot(steps, values, marker=mark, markersize=4)
            line.set(color=COLORS[kind], linewidth=1.2)
        if is_logarithmic(name, [value for curve in sets.values() for value in curve.values()]):
            axes.set_yscale("log")
        axes.set_title(name.replace("_", " "), fontsize="medium")
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if "validation" in sets:
            axes.legend(axes.lines, list(sets), frameon=False, fontsize="small")
    temporary = folder / "curves.tmp.png"
    figure.savefig(temporary)  # a viewer never sees half a picture
    return temporary.replace(folder / "curves.png")


def is_logarithmic(name: str, values: list[float]) -> bool:
    """Return whether a logarithmic scale suits these values better."""
    if name == "lr" or not all(value > 0 for value in values):
        return False
    return math.log10(max(values) / min(values)) >= DECADES
