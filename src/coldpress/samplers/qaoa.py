"""QAOA simulated on a state vector: layers, warm start, transfer of angles (Farhi et al. 2014, Egger et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import dimod
import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from coldpress.errors import SamplerError
from coldpress.samplers._arguments import Clock, clock, listed, one_of, real, sequence, whole
from coldpress.samplers._model import Floats, Model, empty_set, limit, read, sample_set
from coldpress.samplers._statevector import Circuit, all_energies

METHOD = "QAOA, simulated classically on a state vector"
MOST_VARIABLES = 20
OPTIMIZERS = ("L-BFGS-B", "COBYLA")
RAMP = 0.75
"""Sum of gamma and beta in each layer of the first angles, which go linearly from the one to the other."""


class _TimeOverError(Exception):
    """The time is over."""


class QAOASampler(dimod.Sampler):
    """The quantum approximate optimisation algorithm for up to 20 variables, computed on this machine.

    Nothing here is quantum hardware: the state's 2^n amplitudes are kept and samples are drawn from their squares. The
    angles are optimised for the mean energy. Energies enter divided by the typical field on a spin, the root of
    ``sum_i (h_i^2 + sum_j J_ij^2) / n``, so that angles carry over between instances of other size and scale:
    ``info["parameters"]`` of one call is a good ``parameters`` for another, with ``max_iterations=0`` without a search.

    Source: E. Farhi, J. Goldstone, S. Gutmann, arXiv:1411.4028; D. J. Egger, J. Mareček, S. Woerner, "Warm-starting
    quantum optimization", Quantum 5, 479, 2021 (arXiv:2009.10095); first angles on a line after S. H. Sack,
    M. Serbyn, Quantum 5, 491, 2021.

    Example:
        >>> import dimod
        >>> bqm = dimod.BinaryQuadraticModel({"a": 1}, {("a", "b"): -2, ("b", "c"): 1}, 0.0, "SPIN")
        >>> samples = QAOASampler().sample(bqm, num_layers=3, seed=0)
        >>> float(samples.first.energy), samples.info["ground_probability"] > 0.5
        (-4.0, True)
    """

    parameters: ClassVar[dict[str, list[str]]] = listed(
        "num_reads",
        "num_layers",
        "parameters",
        "optimizer",
        "max_iterations",
        "warm_start",
        "epsilon",
        "seed",
        "time_limit",
    )
    properties: ClassVar[dict[str, Any]] = {
        "method": METHOD,
        "max_num_variables": MOST_VARIABLES,
        "optimizers": list(OPTIMIZERS),
    }

    def sample(
        self,
        bqm: Any,
        *,
        num_reads: int = 100,
        num_layers: int | None = None,
        parameters: ArrayLike | None = None,
        optimizer: str = "L-BFGS-B",
        max_iterations: int = 100,
        warm_start: str | Mapping[Any, float] | None = None,
        epsilon: float = 0.25,
        seed: int | None = None,
        time_limit: float | None = None,
        **kwargs: Any,
    ) -> dimod.SampleSet:
        """Optimise the angles, then draw ``num_reads`` samples from the final state.

        Args:
            bqm: a `dimod.BinaryQuadraticModel` of at most 20 variables.
            num_reads: samples.
            num_layers: p, 1 or more; by default that of ``parameters``, else 3.
            parameters: (2, p) gammas and betas, radians, to begin with; by default on a line.
            optimizer: "L-BFGS-B" (with the exact gradient) or "COBYLA" (values alone).
            max_iterations: steps of the optimiser, 0 to take the angles as they are.
            warm_start: value of each variable between 0 (the lower value) and 1, from a relaxation; "relaxation" for
                the local minimum of the energy over the box; by default none.
            epsilon: how far from 0 and 1 the warm start is kept, more than 0 and at most 0.5.
            seed: same seed, same samples, where no time limit cuts; by default a new one.
            time_limit: seconds, after which the best angles so far are used; by default none.
            **kwargs: of other samplers; ignored with a warning.

        Returns:
            ``num_reads`` samples, with ``info``: method, seconds, parameters (2, p), expectation (the state's mean
            energy), ground_probability, evaluations.

        Raises:
            SamplerError: too many variables, a bias is not a finite number, or an argument is out of its range.
        """
        self.remove_unknown_kwargs(**kwargs)
        time, rng = clock(time_limit), np.random.default_rng(sequence(seed))
        reads, steps = whole("num_reads", num_reads, 1), whole("max_iterations", max_iterations, 0)
        method, angles = one_of("optimizer", optimizer, OPTIMIZERS), _first_angles(parameters, num_layers)
        if real("epsilon", epsilon, above=0.0) > 0.5:
            raise SamplerError(f"epsilon is {epsilon!r}; give more than 0 and at most 0.5")
        model = read(bqm)
        limit("QAOASampler", model, MOST_VARIABLES, "it keeps 2^n amplitudes")
        if len(model) == 0:
            return empty_set(bqm, method=METHOD, seconds=time.seconds)
        energies = all_energies(model.as_binary())
        tilts = _tilts(model, warm_start, epsilon)
        circuit = Circuit((energies - energies.mean()) / _scale(model.as_spin()), tilts)
        angles, evaluations = _optimise(circuit, angles, method, steps, time)
        state = circuit.run(angles)
        chances = state.real**2 + state.imag**2
        chances /= chances.sum()
        codes = np.minimum(np.searchsorted(np.cumsum(chances), rng.random(reads), side="right"), len(chances) - 1)
        lowest = energies <= energies.min() + 1e-10 * (np.abs(energies).max() + 1e-300)
        return sample_set(
            bqm,
            model,
            codes[:, None] >> np.arange(len(model)) & 1,
            method=METHOD,
            seconds=time.seconds,
            parameters=angles.tolist(),
            expectation=float(chances @ energies),
            ground_probability=float(chances[lowest].sum()),
            evaluations=evaluations,
        )


def _first_angles(parameters: ArrayLike | None, num_layers: int | None) -> Floats:
    """Angles (2, p) to begin with."""
    layers = None if num_layers is None else whole("num_layers", num_layers, 1)
    if parameters is None:
        part = (np.arange(layers or 3) + 0.5) / (layers or 3)
        return RAMP * np.array([part, 1.0 - part])
    try:
        angles = np.array(parameters, np.float64)
    except (TypeError, ValueError) as error:
        raise SamplerError(f"parameters must be numbers of shape (2, p): {error}") from error
    if angles.ndim != 2 or len(angles) != 2 or angles.shape[1] == 0 or not np.isfinite(angles).all():
        raise SamplerError(f"parameters has shape {angles.shape}; give finite angles of shape (2, p): gammas, betas")
    if layers not in (None, angles.shape[1]):
        raise SamplerError(f"num_layers is {layers}, but parameters are for {angles.shape[1]}; leave one of them out")
    return angles


def _scale(model: Model) -> float:
    """The typical field on a spin."""
    squares = float(model.linear @ model.linear + 2.0 * model.weights @ model.weights)
    return float(np.sqrt(squares / len(model))) or 1.0


def _tilts(model: Model, warm_start: Any, epsilon: float) -> Floats:
    """Angles (n,) of the mixer; a half turn's half where nothing is known."""
    if warm_start is None:
        return np.full(len(model), np.pi / 2)
    if isinstance(warm_start, str):
        one_of("warm_start", warm_start, ("relaxation",))
        values = _relaxed(model.as_binary())
    elif isinstance(warm_start, Mapping):
        missing = [v for v in model.variables if v not in warm_start]
        if missing:
            raise SamplerError(f"warm_start has no value for {missing[0]!r}; give every variable one, from 0 to 1")
        values = np.array([real(f"warm_start[{v!r}]", warm_start[v]) for v in model.variables])
        if (values < 0).any() or (values > 1).any():
            raise SamplerError(f"warm_start has a value of {values[(values < 0) | (values > 1)][0]}; give 0 to 1")
    else:
        raise SamplerError(f"warm_start is {warm_start!r}; give 'relaxation' or a value for each variable, 0 to 1")
    tilts: Floats = 2.0 * np.arcsin(np.sqrt(np.clip(values, epsilon, 1.0 - epsilon)))
    return tilts


def _relaxed(model: Model) -> Floats:
    """A local minimum (n,) of a binary ``model`` over the box [0, 1]^n, from its middle."""
    matrix, scale = model.matrix(), _scale(model)

    def energy(x: Floats) -> tuple[float, Floats]:
        pull = matrix @ x
        return float(x @ (model.linear + 0.5 * pull)) / scale, (model.linear + pull) / scale

    n = len(model)
    found = minimize(energy, np.full(n, 0.5), jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * n)
    return np.asarray(found.x, dtype=np.float64)


def _optimise(circuit: Circuit, angles: Floats, method: str, steps: int, time: Clock) -> tuple[Floats, int]:
    """The best angles (2, p) met, and how often the mean energy was computed."""
    best, lowest, evaluations = angles, np.inf, 0

    def note(flat: Floats, value: float) -> None:
        nonlocal best, lowest, evaluations
        evaluations += 1
        if value < lowest:
            best, lowest = flat.reshape(2, -1).copy(), value
        if time.over:
            raise _TimeOverError

    def with_gradient(flat: Floats) -> tuple[float, Floats]:
        value, gradient = circuit.value_and_gradient(flat.reshape(2, -1))
        note(flat, value)
        return value, gradient.reshape(-1)

    def value_alone(flat: Floats) -> float:
        value = circuit.value(circuit.run(flat.reshape(2, -1)))
        note(flat, value)
        return value

    if steps == 0:
        return angles, 0
    first = angles.reshape(-1)
    try:
        if method == "COBYLA":
            minimize(value_alone, first, method="COBYLA", options={"maxiter": steps, "rhobeg": 0.1})
        else:
            minimize(with_gradient, first, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    except _TimeOverError:
        pass
    return best, evaluations
