"""Numbers as people read them. What is absent, or not a number, is a dash."""

from __future__ import annotations

import math

DASH = "–"
MINUS = "−"
ARROW = "→"

Number = float | int | None


def known(value: Number) -> bool:
    """Whether there is a finite number."""
    return value is not None and math.isfinite(value)


def three(value: Number) -> str:
    """Three significant digits, without an exponent where that stays readable."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.2e}".replace("-", MINUS)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}".replace("-", MINUS)


def count(value: Number) -> str:
    """A whole number with separators."""
    return DASH if value is None or not math.isfinite(value) else f"{value:,.0f}"


def scaled(value: Number, unit: str = "") -> str:
    """Thousands, millions, billions: ``40.6 M``."""
    if value is None or not math.isfinite(value):
        return DASH
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{three(value / factor)} {prefix}{unit}"
    return f"{count(value)} {unit}".rstrip()


def size(value: Number) -> str:
    """Bytes, decimal: ``1.05 MB``."""
    return scaled(value, "B")


def milliseconds(value: Number) -> str:
    """``0.271 ms``."""
    return f"{three(value)} ms" if known(value) else DASH


def score(value: float | None, metric: str = "accuracy") -> str:
    """A metric's value: a percentage, or of a log-likelihood (nats a token) the perplexity.

    >>> score(0.9), score(-1.0, "log_likelihood")
    ('90.00 %', 'perplexity 2.72')
    """
    if value is not None and metric == "log_likelihood":
        return f"perplexity {three(math.exp(-value))}"
    return percent(value, 2)


def percent(value: Number, digits: int = 1) -> str:
    """A fraction as a percentage: ``0.887`` is ``88.7 %``."""
    return DASH if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def signed(value: Number, digits: int = 2) -> str:
    """A fraction in percentage points, with its sign: ``-0.004`` is ``−0.40``."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{100 * value:+.{digits}f}".replace("-", MINUS)
    return text[1:] if not text[1:].strip("0.") else text


def interval(bounds: list[float] | tuple[float, float] | None) -> str:
    """Fractions as a range of percentages: ``87.8 to 89.5 %``."""
    if not bounds:
        return DASH
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"


def p_value(value: Number) -> str:
    """``p = 0.12``, or ``p < 0.001``."""
    if value is None or not math.isfinite(value):
        return DASH
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def ratio(before: Number, after: Number, better: str, worse: str) -> str:
    """``3.9× faster`` or ``1.2× slower``; "the same" within half a percent."""
    if before is None or after is None or not (before > 0 and after > 0):
        return DASH
    factor = before / after
    if abs(factor - 1) < 0.005:
        return "the same"
    word, factor = (better, factor) if factor > 1 else (worse, 1 / factor)
    return f"{factor:.2f}× {word}" if factor < 10 else f"{factor:.1f}× {word}"
