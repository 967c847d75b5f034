"""Problems of real networks, kept small in files: the triangle of a factor of the energy, and the costs' tables.

An energy K that is positive semi-definite is kept as a factor F (pivoted Cholesky) with K = F F^T, as float32: so what
is read is positive semi-definite too, and differs from what was measured by about 1e-7 of it. Any other energy is kept
as it is. What a file says of itself is in its head.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from coldpress.budget import Limits
from coldpress.errors import PlanError
from coldpress.files import beside
from coldpress.problem import Cost, Energy, Factor, Problem

FORMAT = 1
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stored:
    """The problem of one trained network, the same for every seed.

    Args:
        name: of the family.
        file: in `coldpress.instances`' own folder of problems.
        title: what it is, in a line.
    """

    name: str
    file: str
    title: str

    def make(self, seed: int = 0) -> Problem:
        """The problem; ``seed`` changes nothing."""
        del seed
        return read(resources.files("coldpress.instances").joinpath("problems", self.file).read_bytes())[0]

    def facts(self) -> dict[str, Any]:
        """How the problem was made: model, data, budget, command."""
        return read(resources.files("coldpress.instances").joinpath("problems", self.file).read_bytes())[1]


def write(problem: Problem, path: Path, facts: Mapping[str, Any]) -> Path:
    """Write a problem, with JSON-ready facts on how it came about.

    Raises:
        PlanError: the energy has a linear part, which those of networks around the original have not.
    """
    if problem.energy.linear.any():
        raise PlanError("only energies without a linear part are stored; write others by coldpress.interchange")
    arrays: dict[str, NDArray[Any]] = {}
    factor = _factor(problem.energy.quadratic)
    if factor is None:
        arrays["quadratic"] = problem.energy.quadratic[np.triu_indices(len(problem.energy.quadratic))]
    else:
        lower, order = factor
        arrays |= {
            "factor": lower[np.tril_indices(lower.shape[0], 0, lower.shape[1])].astype(np.float32),
            "order": order.astype(np.int32),
        }
    costs: dict[str, Any] = {}
    for name, cost in problem.costs.items():
        scopes: list[list[int]] = []
        places: list[int] = []
        tables: list[Floats] = []
        known: dict[bytes, int] = {}
        for part in cost.factors:
            place = known.setdefault(part.table.tobytes() + str(part.table.shape).encode(), len(known))
            if place == len(tables):
                tables.append(part.table)
            scopes.append(list(part.units))
            places.append(place)
        arrays[f"cost {name}"] = np.concatenate([table.ravel() for table in tables] or [np.zeros(0)])
        shapes = [list(table.shape) for table in tables]
        costs[name] = {"constant": cost.constant, "units": scopes, "tables": places, "shapes": shapes}
    head = {
        "format": FORMAT, "facts": dict(facts), "names": problem.names, "labels": problem.labels,
        "limits": problem.limits, "constant": problem.energy.constant, "costs": costs,
    }  # fmt: skip
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    with beside(path) as place_of_file, place_of_file.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return path


def read(raw: bytes) -> tuple[Problem, dict[str, Any]]:
    """The problem in such a file, and its facts.

    Raises:
        PlanError: the bytes are no such file, or of another format.
    """
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            head = json.loads(arrays["head"].tobytes())
            if head["format"] != FORMAT:
                raise PlanError(f"format {head['format']!r} of stored problems is unknown; this version reads {FORMAT}")
            sizes = [len(texts) for texts in head["labels"]]
            n = sum(sizes)
            energy = Energy(_quadratic(dict(arrays), n), np.zeros(n), head["constant"])
            costs = {name: _cost(name, entry, arrays[f"cost {name}"]) for name, entry in head["costs"].items()}
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise PlanError(f"this is not a stored problem: {error!r}; make it by benchmarks/true_problems.py") from error
    limits = Limits(numbers=head["limits"])
    return Problem.from_arrays(sizes, energy, costs, limits, head["names"], head["labels"]), head["facts"]


def _factor(K: Floats) -> tuple[Floats, NDArray[np.int64]] | None:
    """A lower trapezoid F, (n, rank), and an order of the n with K[order, order] = F F^T; None where K is not so."""
    lower, pivots, rank, _ = lapack.dpstrf(K, lower=1, tol=1e-12 * float(np.abs(K).max(initial=0.0)))
    order = pivots.astype(np.int64) - 1
    factor = np.tril(lower)[:, :rank]
    close = np.abs(factor @ factor.T - K[np.ix_(order, order)]).max(initial=0.0)
    return (factor, order) if close <= 1e-6 * float(np.abs(K).max(initial=0.0)) else None


def _quadratic(arrays: Mapping[str, NDArray[Any]], n: int) -> Floats:
    if "quadratic" in arrays:
        full = np.zeros((n, n))
        full[np.triu_indices(n)] = arrays["quadratic"]
        return full + np.triu(full, 1).T
    order, values = arrays["order"], arrays["factor"].astype(np.float64)
    # A trapezoid of rank r holds n r - r (r - 1) / 2 numbers.
    rank = next(r for r in range(n + 1) if n * r - r * (r - 1) // 2 == len(values))
    factor = np.zeros((n, rank))
    factor[np.tril_indices(n, 0, rank)] = values
    ordered = np.zeros((n, rank))
    ordered[order] = factor
    return np.asarray(ordered @ ordered.T)


def _cost(name: str, entry: Mapping[str, Any], flat: Floats) -> Cost:
    ends = np.cumsum([int(np.prod(shape)) for shape in entry["shapes"]])
    tables = [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), entry["shapes"])]
    factors = tuple(Factor(tuple(units), tables[place]) for units, place in zip(entry["units"], entry["tables"]))
    return Cost(name, factors, entry["constant"])
