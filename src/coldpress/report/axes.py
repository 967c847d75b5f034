"""The little that is needed to draw calm figures as SVG: scales, ticks, a frame, lines and dots.

Colours are CSS classes of the page, so one drawing serves the light and the dark scheme; text stays text. Figures are
drawn 420 units wide, near the width at which they are shown, so letters keep their size on a telephone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from coldpress.report.formats import MINUS, three

WIDTH = 420
HEIGHT = 250
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 40

Point = tuple[float, float]


def svg(inside: Iterable[Markup], label: str, height: float = HEIGHT) -> Markup:
    """Wrap marks into a drawing that scales with its box; ``label`` is what a screen reader says."""
    open_tag = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, round(height), label)
    return open_tag + Markup("").join(inside) + Markup("</svg>")


def text(x: float, y: float, words: str, css: str = "", anchor: str = "start", turn: float = 0) -> Markup:
    """A label at ``(x, y)``, turned by ``turn`` degrees about that point."""
    turned = Markup(' transform="rotate({} {:.1f} {:.1f})"').format(turn, x, y) if turn else Markup()
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}"{}>{}</text>').format(
        x, y, css, anchor, turned, words
    )


@dataclass(frozen=True)
class Axis:
    """Maps values in ``low..high`` to ``start..end`` in the drawing; ``whole`` keeps ticks to whole numbers."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values within the range, at most ``most`` and a few."""
        if self.log and self.high / self.low >= 10:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(decades) <= 2 else (1, 3) if len(decades) <= 3 else (1,)
            values = [m * 10.0**d for d in decades for m in steps if self.low <= m * 10.0**d <= self.high]
            return values[:: 1 + len(values) // (most + 3)]
        raw = (self.high - self.low) / most
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
        step = math.ceil(step) if self.whole else step
        first = math.ceil(self.low / step - 1e-9)
        values = [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [v for v in values if v > 0] if self.log else values


def fit_axis(values: Sequence[float], start: float, end: float, *, log: bool = False, zero: bool = False) -> Axis:
    """An axis that holds all ``values`` with some air, from zero on if asked."""
    low, high = min(values), max(values)
    if log:
        air = max((high / low) ** 0.06, 1.05)
        return Axis(low / air, high * air, start, end, log=True)
    air = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(0.0 if zero and low >= 0 else low - air, high + air, start, end)


@dataclass(frozen=True)
class Frame:
    """The plotting area: two axes with their titles."""

    x: Axis
    y: Axis
    x_title: str
    y_title: str

    def draw(self, y_ticks: bool = True) -> Markup:
        """Faint lines across, tick labels, the value axis' title above and the other's below."""
        left, right, bottom = self.x.start, self.x.end, self.y.start
        marks = []
        for value in self.y.ticks() if y_ticks else ():
            y = self.y(value)
            marks.append(Markup('<path class="grid" d="M{:.1f} {:.1f}H{:.1f}"/>').format(left, y, right))
            marks.append(text(left - 7, y + 4, tick_label(value), "tick", "end"))
        marks.append(Markup('<path class="axis" d="M{:.1f} {:.1f}H{:.1f}"/>').format(left, bottom, right))
        for value in self.x.ticks():
            x = self.x(value)
            marks.append(Markup('<path class="axis" d="M{:.1f} {:.1f}v4"/>').format(x, bottom))
            marks.append(text(x, bottom + 16, tick_label(value), "tick", "middle"))
        marks.append(text(0, 11, self.y_title, "title"))
        marks.append(text(right, bottom + 33, self.x_title, "title", "end"))
        return Markup("").join(marks)

    def line(self, points: Sequence[Point], css: str) -> Markup:
        """A line through the points."""
        path = "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        return Markup('<path class="line {}" d="M{}"/>').format(css, path)

    def steps(self, points: Sequence[Point], css: str) -> Markup:
        """A line that keeps each value until the next."""
        path = f"M{self.x(points[0][0]):.1f} {self.y(points[0][1]):.1f}"
        path += "".join(f"H{self.x(x):.1f}V{self.y(y):.1f}" for x, y in points[1:])
        return Markup('<path class="line {}" d="{}"/>').format(css, path)

    def band(self, low: Sequence[Point], high: Sequence[Point], css: str) -> Markup:
        """The area between two lines."""
        path = "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in [*low, *reversed(high)])
        return Markup('<path class="band {}" d="M{}Z"/>').format(css, path)

    def bars(self, heights: Sequence[float], edges: Sequence[float], base: float, tall: float, css: str) -> Markup:
        """A histogram that stands on ``base`` in the drawing, its highest bar ``tall`` high."""
        unit = tall / max(max(heights), 1e-12)
        path = "".join(
            f"M{self.x(left):.1f} {base:.1f}V{base - unit * height:.1f}H{self.x(right):.1f}V{base:.1f}"
            for height, left, right in zip(heights, edges[:-1], edges[1:])
            if height
        )
        return Markup('<path class="fill {}" d="{}"/>').format(css, path)

    def dots(self, points: Sequence[Point], css: str, radius: float = 3.5, titles: Sequence[str] = ()) -> Markup:
        """A dot at each point; ``titles`` are shown when pointed at."""
        marks = []
        for i, (x, y) in enumerate(points):
            tip = Markup("<title>{}</title>").format(titles[i]) if titles else Markup()
            circle = '<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="{}">{}</circle>'
            marks.append(Markup(circle).format(css, self.x(x), self.y(y), radius, tip))
        return Markup("").join(marks)


def frame(
    points: Sequence[Point],
    x_title: str,
    y_title: str,
    *,
    log: tuple[bool, bool] = (False, False),
    zero: bool = False,
    whole: bool = False,
) -> Frame:
    """A frame in which all ``points`` fit; ``log`` for x and y; ``zero`` and ``whole`` are of the x axis."""
    x = replace(fit_axis([p[0] for p in points], LEFT, WIDTH - RIGHT, log=log[0], zero=zero), whole=whole)
    y = fit_axis([p[1] for p in points], HEIGHT - BOTTOM, TOP, log=log[1])
    return Frame(x, y, x_title, y_title)


def tick_label(value: float) -> str:
    """A tick's number, without the zeros that a round value does not need; below a thousandth with an exponent."""
    if 0 < abs(value) < 1e-3:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", MINUS)
    label = three(value)
    if "." in label and "e" not in label:
        label = label.rstrip("0").rstrip(".")
    return label
