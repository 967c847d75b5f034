"""Binary quadratic models as COO text: a line ``u v bias`` for each coupling, ``u u bias`` for a linear bias.

Beside these lines there may be empty ones, and comments from ``#`` to the end. Some comments are read:
``# vartype=SPIN`` or ``BINARY``, ``# offset=1.5``, and ``# name 0 "x"``, the label of variable 0 as JSON. dimod skips
the last two.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Hashable

import dimod
import numpy as np

from coldpress.errors import PlanError

logger = logging.getLogger("coldpress.interchange.coo")
VARTYPES = ("BINARY", "SPIN")
_VARTYPE = re.compile(r"\bvartype\s*[:=]\s*(\S+)", re.IGNORECASE)
_OFFSET = re.compile(r"\s*offset\s*[:=]\s*(\S+)\s*", re.IGNORECASE)
_NAME = re.compile(r"\s*name\s+(\d+)\s+(\".*\")\s*")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_LINE = re.compile(rf"(\d+)\s+(\d+)\s+({_NUMBER})", re.ASCII)


def loads(text: str, vartype: str | None = None) -> dimod.BinaryQuadraticModel:
    """The model in a text. Biases of a pair, or of a variable, that stand there more than once are added.

    Args:
        text: lines.
        vartype: "BINARY" or "SPIN"; by default what the text says, else BINARY, with a warning.

    Raises:
        PlanError: a line is none of the above (which is named by its number), or the vartypes disagree.
    """
    known, offset, names = vartype, 0.0, dict[int, str]()
    terms: list[tuple[int, int, float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        body, _, comment = line.partition("#")
        if found := _NAME.fullmatch(comment):
            names[int(found[1])] = _label(found[2], number)
        elif found := _OFFSET.fullmatch(comment):
            offset += _finite(found[1], number)
        elif found := _VARTYPE.search(comment):
            known = _agreed(known, found[1].upper(), number)
        if not body.strip():
            continue
        term = _LINE.fullmatch(body.strip())
        if term is None:
            raise PlanError(
                f"line {number} is {line.strip()!r}; give two variables as whole numbers from 0 and a finite bias, "
                "as in '0 1 -2.5e-3', or a comment from #"
            )
        terms.append((int(term[1]), int(term[2]), _finite(term[3], number)))
    if not terms:
        raise PlanError("there is no line with two variables and a bias")
    if known is None:
        logger.warning("the COO text names no vartype and is read as BINARY: write '# vartype=SPIN' where it is not")
    model = dimod.BinaryQuadraticModel(known or "BINARY")
    model.offset = offset
    for u, v, bias in terms:
        if u == v:
            model.add_linear(u, bias)
        else:
            model.add_quadratic(u, v, bias)
    labels: dict[Hashable, Hashable] = {v: names.get(v, v) for v in model.variables}
    if len(set(labels.values())) < len(labels):
        raise PlanError("two variables have the same name")
    return model.relabel_variables(labels, inplace=False)


def dumps(model: dimod.BinaryQuadraticModel) -> str:
    """The model as text, every number in full: `loads` gives the same model, labels as strings.

    Numbers are without exponents, which dimod's own reader does not know.
    """
    place = {v: i for i, v in enumerate(model.variables)}
    lines = [f"# vartype={model.vartype.name}", f"# offset={_written(model.offset)}"]
    lines += [f"# name {i} {json.dumps(str(v))}" for v, i in place.items() if v != i]
    # A variable without a bias has its line too: else it might be lost.
    lines += [f"{i} {i} {_written(model.get_linear(v))}" for v, i in place.items()]
    pairs = sorted((*sorted((place[u], place[v])), bias) for u, v, bias in model.iter_quadratic())
    lines += [f"{i} {j} {_written(bias)}" for i, j, bias in pairs]
    return "\n".join(lines) + "\n"


def _agreed(known: str | None, found: str, number: int) -> str:
    if found not in VARTYPES:
        raise PlanError(f"line {number} says vartype {found}; there are {' and '.join(VARTYPES)}")
    if known is not None and known != found:
        raise PlanError(f"line {number} says vartype {found}, but {known} was given before: leave out the wrong one")
    return found


def _finite(text: str, number: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PlanError(f"line {number} holds {text!r}, which is no finite number")
    return value


def _label(text: str, number: int) -> str:
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise PlanError(f"line {number}: the name {text} is no JSON string") from error


def _written(value: float) -> str:
    return np.format_float_positional(float(value), trim="-")
