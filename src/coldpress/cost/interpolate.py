"""Times between measured widths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls


class Family:
    """Layers that differ in their widths alone: measured points, and what lies between them."""

    def __init__(self, points: dict[tuple[int, int], float]) -> None:
        self._points = points
        self._ins = sorted({i for i, _ in points})
        self._outs = sorted({o for _, o in points})
        self._plane: tuple[float, ...] | None = None

    def at(self, width_in: int, width_out: int) -> float:
        """Bilinear in the smallest measured rectangle around; else the best fit a + b in + c out + d in out."""
        for i0, i1 in _brackets(self._ins, width_in):
            for o0, o1 in _brackets(self._outs, width_out):
                corners = [self._points.get((i, o)) for i in (i0, i1) for o in (o0, o1)]
                if all(corner is not None for corner in corners):
                    s = (width_in - i0) / (i1 - i0) if i1 > i0 else 0.0
                    t = (width_out - o0) / (o1 - o0) if o1 > o0 else 0.0
                    a, b, c, d = (float(corner) for corner in corners if corner is not None)
                    return (1 - s) * ((1 - t) * a + t * b) + s * ((1 - t) * c + t * d)
        if len(self._points) > 1 and len({o / i for i, o in self._points}) == 1:  # grouped: both widths go together
            values = [self._points[i, o] for i, o in sorted(self._points)]
            return float(np.interp(width_in, self._ins, values))
        if self._plane is None:
            rows = np.array([(1.0, i, o, i * o) for i, o in self._points])
            times = np.array(list(self._points.values()))
            self._plane = tuple(float(x) for x in nnls(rows / times[:, None], np.ones(len(times)))[0])
        a, b, c, d = self._plane
        return a + b * width_in + c * width_out + d * width_in * width_out


def _brackets(values: Sequence[int], at: int) -> list[tuple[int, int]]:
    """Pairs of values around ``at``, the tightest first."""
    tight = [(at, at)] if at in values else []
    pairs = [(low, high) for low in values if low < at for high in values if high > at]
    return tight + sorted(pairs, key=lambda pair: pair[1] - pair[0])
