"""Any solver as a sampler of binary quadratic models, so that it can stand wherever a sampler does."""

from __future__ import annotations

from typing import Any, ClassVar

import dimod

from coldpress.errors import ColdpressError
from coldpress.interchange import of_bqm
from coldpress.names import meant
from coldpress.samplers import _model
from coldpress.solvers import SOLVERS


class SolverSampler(dimod.Sampler):
    """A solver of problems, given a model as a problem of one unit of two options for each variable.

    Args:
        name: one of `coldpress.solvers.SOLVERS`.
        **options: of the solver's own function.

    Raises:
        ColdpressError: no solver is called so.

    Example:
        >>> model = dimod.BinaryQuadraticModel({"a": 1, "b": 1}, {("a", "b"): -3}, 0.0, "BINARY")
        >>> found = SolverSampler("exact").sample(model, seed=0)
        >>> float(found.first.energy), round(found.info["lower_bound"], 6)
        (-1.0, -1.0)
    """

    parameters: ClassVar[dict[str, list[str]]] = {"seed": [], "time_limit": []}

    def __init__(self, name: str, **options: Any) -> None:
        if name not in SOLVERS:
            raise ColdpressError(f"unknown solver {name!r}; use one of {', '.join(SOLVERS)}{meant(name, SOLVERS)}")
        self._name, self._options = name, options

    @property
    def properties(self) -> dict[str, Any]:
        """What this is."""
        return {"method": f"solver {self._name}", "options": dict(self._options)}

    def sample(
        self, bqm: Any, *, seed: int | None = None, time_limit: float | None = None, **kwargs: Any
    ) -> dimod.SampleSet:
        """The solver's best state.

        Args:
            bqm: any `dimod.BinaryQuadraticModel`.
            seed: same seed, same state, as long as the solver ends before the time does; 0 by default.
            time_limit: seconds; 10 by default. The model's reading as a problem comes before.
            **kwargs: of other samplers; ignored with a warning.

        Returns:
            One sample, with ``info``: method, and lower_bound (no state has less energy; None where nothing is proven).
            Of a model without variables there is none.

        Raises:
            PlanError: there are too many variables, or the time limit is not more than 0.
            SamplerError: it is no such model, or a bias is not a finite real number.
        """
        self.remove_unknown_kwargs(**kwargs)
        method = f"solver {self._name}"
        if not len(_model.read(bqm)):
            return _model.empty_set(bqm, method=method, lower_bound=None)
        read = of_bqm(bqm)
        assert read.sample is not None
        limit = 10.0 if time_limit is None else time_limit
        answer = SOLVERS[self._name](read.problem, seed=seed or 0, time_limit=limit, **self._options)
        found = dimod.SampleSet.from_samples_bqm(read.sample(answer.choice), bqm)
        found.info.update(method=method, lower_bound=answer.lower_bound)
        return found
