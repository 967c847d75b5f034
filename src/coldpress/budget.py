"""Limits on what a plan may cost: parsed from "25%", "2MB", "3ms" or numbers, resolved against the original."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

from coldpress.errors import BudgetError
from coldpress.names import meant

_DECIMAL = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_UNITS: Mapping[str, Mapping[str, float]] = {
    "latency": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9},
    "size": {"b": 1.0}
    | {f"{letter}b": factor for letter, factor in _DECIMAL.items()}
    | {f"{letter}ib": 1024.0**i for i, letter in enumerate("kmgt", start=1)},
    "macs": {**_DECIMAL, "macs": 1.0} | {f"{letter}macs": factor for letter, factor in _DECIMAL.items()},
}
_EXAMPLES = {
    "latency": '"25%" of the original, "3ms", "250us", or seconds as a number',
    "size": '"25%" of the original, "2MB", "500KB", "1.5MiB", or bytes as a number',
    "macs": '"47%" of the original, "40M", "1.2G", or MACs as a number',
}
_PATTERN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-zµμ%]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """Upper limits on the costs of a plan; None leaves a quantity free.

    Args:
        latency: seconds of one inference: a number, "3ms", "250us", or "25%" of the original.
        size: bytes of the stored model: a number, "2MB", "500KB", "1.5MiB", or a percentage of the original.
        macs: multiply-accumulates of one sample: a number, "40M", "1.2G", or a percentage of the original.

    Raises:
        BudgetError: a value is malformed, not positive, or above 100 %.

    Example:
        >>> Budget(macs="50%").resolve({"macs": 80e6})
        {'macs': 40000000.0}
    """

    latency: str | float | None = None
    size: str | float | None = None
    macs: str | float | None = None

    def __post_init__(self) -> None:
        for quantity, value in self.given().items():
            _read(quantity, value)

    def given(self) -> dict[str, str | float]:
        """The quantities that have a limit, with the limits as they were written."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {quantity: value for quantity, value in values.items() if value is not None}

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Budget:
        """Read limits as the command line gives them, ``["latency=25%", "size=2MB"]``.

        Raises:
            BudgetError: not ``quantity=value``, an unknown quantity, or one given twice.
        """
        values: dict[str, str] = {}
        for text in texts:
            quantity, equals, value = (part.strip() for part in text.partition("="))
            if not equals:
                raise BudgetError(f"budget {text!r} is not of the form quantity=value; write for example latency=25%")
            if quantity not in _UNITS:
                hint = meant(quantity.lower(), _UNITS, 1)
                raise BudgetError(f"unknown budget quantity {quantity!r}; use one of {', '.join(_UNITS)}{hint}")
            if quantity in values:
                raise BudgetError(f"the budget of {quantity} is given twice: {values[quantity]!r} and {value!r}")
            values[quantity] = value
        return cls(**values)

    def resolve(self, originals: Mapping[str, float]) -> dict[str, float]:
        """The limits as absolute numbers, percentages taken of ``originals`` (quantity to its cost now).

        Raises:
            BudgetError: a percentage of a quantity whose original is not in ``originals``.
        """
        limits: dict[str, float] = {}
        for quantity, value in self.given().items():
            number, relative = _read(quantity, value)
            if relative and quantity not in originals:
                raise BudgetError(
                    f"the budget {quantity}={value} needs the original {quantity}, which is not known; "
                    f"give an absolute value ({_EXAMPLES[quantity]}) or a cost for {quantity}"
                )
            limits[quantity] = number * originals[quantity] if relative else number
        return limits

    def in_words(self, quantity: str, value: float) -> tuple[str, float]:
        """How a quantity is limited, "<=" or ">=", and a cost in the numbers of whoever set the limit."""
        del quantity
        return "<=", value

    def describe(self) -> str:
        """The budget in one line, for logs and tables."""
        return ", ".join(f"{quantity} <= {value}" for quantity, value in self.given().items()) or "no limit"


@dataclass(frozen=True)
class Limits(Budget):
    """Limits on costs of any name, as absolute numbers: constraints of models that are not ours.

    Args:
        numbers: by the constraint's label.
        shown: where a cost is not what the model holds: that is the cost times the first number (1, or -1 where the
            limit is a least one) plus the second.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    shown: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def given(self) -> dict[str, str | float]:
        """The limits by the constraints' labels."""
        return dict(self.numbers)

    def resolve(self, originals: Mapping[str, float]) -> dict[str, float]:
        """The limits; all are absolute."""
        return dict(self.numbers)

    def in_words(self, quantity: str, value: float) -> tuple[str, float]:
        """As the model has it."""
        sign, shift = self.shown.get(quantity, (1.0, 0.0))
        return "<=" if sign > 0 else ">=", sign * value + shift

    def __post_init__(self) -> None:
        """Nothing is parsed: the numbers come from a model."""


def _read(quantity: str, value: str | float) -> tuple[float, bool]:
    """The number (a fraction for a percentage) and whether it is relative to the original."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BudgetError(f"budget {quantity}={value!r} is not a limit; give {_EXAMPLES[quantity]}")
    match = _PATTERN.fullmatch(value.strip()) if isinstance(value, str) else None
    if isinstance(value, str) and match is None:
        raise BudgetError(f"budget {quantity}={value!r} cannot be read; give {_EXAMPLES[quantity]}")
    number, suffix = (float(match[1]), match[2].lower()) if match else (float(value), "")
    if not math.isfinite(number) or number <= 0:
        raise BudgetError(f"budget {quantity}={value!r} must be above 0 and finite; give {_EXAMPLES[quantity]}")
    if suffix == "%":
        if number > 100:
            raise BudgetError(f"budget {quantity}={value!r} is above 100 %; a percentage is of the original, 0 to 100")
        return number / 100.0, True
    if suffix and suffix not in _UNITS[quantity]:
        raise BudgetError(f"budget {quantity}={value!r} has the unknown unit {suffix!r}; give {_EXAMPLES[quantity]}")
    return number * _UNITS[quantity].get(suffix, 1.0), False
