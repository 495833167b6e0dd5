"""A run's metrics.jsonl as curves that are short enough for a page."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

POINTS = 160  # of one curve, at most
LINES = 5000  # of a file that are read in full
KEPT = b'"validation/'  # lines that are read however long the file is

Curve = tuple[list[int], list[float | None]]
_line = msgspec.json.Decoder(dict[str, Any])


def read(path: Path) -> tuple[dict[str, Curve], bool]:
    """metric -> (steps, values), and whether anything was thinned out. {} without a file; a line
    that is torn or damaged is passed over, as is what is no number (None in the curve)."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return {}, False
    thinned = len(lines) > LINES
    if thinned:
        every = len(lines) // LINES + 1
        lines = [line for n, line in enumerate(lines) if n % every == 0 or KEPT in line]
    curves: dict[str, Curve] = defaultdict(lambda: ([], []))
    for line in lines:
        try:
            entry = _line.decode(line)
        except msgspec.DecodeError:
            continue
        step = entry.pop("step", None)
        entry.pop("time", None)
        if not isinstance(step, int):
            continue
        for name, value in entry.items():
            steps, values = curves[name]
            steps.append(step)
            values.append(short(value))
    found = {}
    for name, curve in curves.items():
        found[name] = thin(*curve)
        thinned = thinned or len(found[name][0]) < len(curve[0])
    return found, thinned


def thin(steps: Sequence[int], values: Sequence[float | None], points: int = POINTS) -> Curve:
    """At most `points` of a curve: the lowest and the highest of each stretch, so that a spike
    stays, and the last."""
    if len(steps) <= points:
        return list(steps), list(values)
    stretches = (points - 1) // 2
    kept = {len(steps) - 1}
    for n in range(stretches):
        low, high = n * len(steps) // stretches, (n + 1) * len(steps) // stretches
        told = [place for place in range(low, high) if values[place] is not None] or [low]
        kept |= {min(told, key=lambda at: values[at] or 0.0)}
        kept |= {max(told, key=lambda at: values[at] or 0.0)}
    places = sorted(kept)
    return [steps[place] for place in places], [values[place] for place in places]


def short(value: Any) -> float | None:
    """Five significant digits; None for what is not a finite number ("nan" in the file)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(f"{value:.5g}")
