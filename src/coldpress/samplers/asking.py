"""Any sampler asked in its own words, and its answer checked: variables, values and energies are computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dimod
import numpy as np
from numpy.typing import NDArray

from coldpress.errors import ColdpressError, SamplerError
from coldpress.samplers._arguments import clock

_TOLERANCE = 1e-6
_MOST_MILLISECONDS = 2**31 - 1  # an int of C: 24 days


def ask(
    sampler: Any,
    model: dimod.BinaryQuadraticModel,
    *,
    name: str | None = None,
    num_reads: int | None = None,
    seed: int | None = None,
    time_limit: float | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> dimod.SampleSet:
    """Samples of a model, with its own values and checked energies.

    Args:
        sampler: a `dimod.Sampler`, anybody's.
        model: what to sample.
        name: of the sampler, for messages; by default its class.
        num_reads, seed, time_limit: given in the sampler's own words where it has any (dwave-samplers: a function that
            interrupts, or milliseconds a read); else left out.
        parameters: further arguments of its own.

    Raises:
        SamplerError: it is no sampler, has no such parameter, fails, or returns no read, other variables, values that
            are not of the model, or energies that the model does not have.
    """
    called = name or type(sampler).__name__
    known = getattr(sampler, "parameters", None)
    if not hasattr(sampler, "sample") or known is None:
        raise SamplerError(f"{called} is no sampler of binary quadratic models; give a dimod.Sampler")
    given = dict(parameters or {})
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SamplerError(f"{called} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    wanted: dict[str, Any] = {"num_reads": num_reads, "seed": None if seed is None else seed % 2**31}
    if time_limit is not None and "time_limit" in known:
        wanted["time_limit"] = time_limit
    elif time_limit is not None and "interrupt_function" in known:
        time = clock(time_limit)
        wanted["interrupt_function"] = lambda: time.over
    elif time_limit is not None and type(sampler).__module__.startswith("dwave.samplers.tabu"):
        wanted["timeout"] = max(int(min(1000 * clock(time_limit).limit / (num_reads or 1), _MOST_MILLISECONDS)), 1)
    given = {key: value for key, value in wanted.items() if key in known and value is not None} | given
    samples = called_with(called, sampler.sample, model, given)
    return of_model(samples, called, model)


def of_model(samples: dimod.SampleSet, name: str, model: dimod.BinaryQuadraticModel) -> dimod.SampleSet:
    """The samples of a model, `checked`.

    Raises:
        SamplerError: they are not of the model.
    """
    return checked(samples, name, list(model.variables), model.vartype, lambda found: _energies(model, found))


def called_with(name: str, function: Callable[..., Any], model: Any, given: Mapping[str, Any]) -> dimod.SampleSet:
    """What a sampler returns, complete.

    Raises:
        SamplerError: it fails, or returns anything but samples.
    """
    try:
        samples = function(model, **given)
        if isinstance(samples, dimod.SampleSet):
            samples.resolve()
    except ColdpressError:
        raise
    except (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, MemoryError) as error:
        words = str(error).partition("\n")[0]
        raise SamplerError(f"{name} failed: {words} ({type(error).__name__})") from error
    if not isinstance(samples, dimod.SampleSet):
        raise SamplerError(f"{name} returned a {type(samples).__name__} in place of a dimod.SampleSet")
    return samples


def checked(
    samples: dimod.SampleSet,
    name: str,
    variables: list[Any],
    vartype: Any,
    energies: Callable[[dimod.SampleSet], tuple[NDArray[np.float64], float]],
) -> dimod.SampleSet:
    """The samples in values of ``vartype``, once their variables, values and energies are found right.

    Args:
        samples: to be checked.
        name: of the sampler.
        variables: of the model.
        vartype: of the model.
        energies: of such samples, ``(reads,)``, and the size of the numbers that they are sums of.

    Raises:
        SamplerError: they are not; the message says what is wrong.
    """
    if set(samples.variables) != set(variables):
        missing = sorted(map(str, set(variables) - set(samples.variables)))[:3]
        more = sorted(map(str, set(samples.variables) - set(variables)))[:3]
        raise SamplerError(
            f"{name} returned other variables than the model has (missing: {missing or 'none'}, unknown: "
            f"{more or 'none'}): its answer is refused"
        )
    if variables and not len(samples):
        raise SamplerError(f"{name} returned no read: give it more time, or more reads")
    values = sorted(samples.vartype.value) if samples.vartype in (dimod.SPIN, dimod.BINARY) else [0, 1]
    if not np.isin(samples.record.sample, values).all():
        raise SamplerError(f"{name} returned values other than {values}: its answer is refused")
    if samples.vartype in (dimod.SPIN, dimod.BINARY):
        samples = samples.change_vartype(vartype, inplace=False)
    true, scale = energies(samples)
    told = np.asarray(samples.record.energy, dtype=np.float64)
    wrong = ~(np.abs(told - true) <= _TOLERANCE * (1.0 + np.abs(true)) + 1e-9 * scale)  # NaN is wrong too
    if wrong.any():
        first = int(np.argmax(wrong))
        raise SamplerError(
            f"{name} says that read {first} has energy {told[first]:g}, the model {true[first]:g}: "
            "its answer is refused"
        )
    return samples


def _energies(model: dimod.BinaryQuadraticModel, samples: dimod.SampleSet) -> tuple[NDArray[np.float64], float]:
    vectors = model.to_numpy_vectors(sort_labels=False)
    biases = (vectors.linear_biases, vectors.quadratic.biases, float(model.offset))
    scale = float(sum(np.abs(np.asarray(part, dtype=np.float64)).sum() for part in biases))
    return np.asarray(model.energies(samples), dtype=np.float64), scale
