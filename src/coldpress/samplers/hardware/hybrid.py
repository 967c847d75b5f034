"""The vendor's hybrid services, of BQMs and of CQMs: errors say what to do, reads are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dimod

from coldpress.errors import HardwareError
from coldpress.samplers._arguments import Clock, clock
from coldpress.samplers._model import empty_set, read
from coldpress.samplers.hardware.reads import keep
from coldpress.samplers.hardware.vendor import told, wait
from coldpress.samplers.kinds import describe

METHOD = "a hybrid service"
PATIENCE = 120.0
"""Seconds for network and queue, besides the time that the service may work."""


class HybridSampler(dimod.ComposedSampler):
    """The vendor's hybrid service of binary quadratic models.

    Args:
        child: a `LeapHybridSampler`.
        folder: for the reads; None keeps none.
    """

    def __init__(self, child: Any, folder: Path | None = None) -> None:
        self._child, self._folder = child, folder

    @property
    def children(self) -> list[Any]:
        """The vendor's sampler."""
        return [self._child]

    @property
    def parameters(self) -> dict[str, list[str]]:
        """Arguments of `sample`."""
        return {"time_limit": []}

    @property
    def properties(self) -> dict[str, Any]:
        """What this is."""
        return {"method": METHOD}

    def sample(self, bqm: Any, *, time_limit: float | None = None, **kwargs: Any) -> dimod.SampleSet:
        """What the service finds within ``time_limit`` seconds of its own, by default as few as it takes.

        Raises:
            SamplerError: a bias is not finite.
            HardwareError: the time is less than the service takes for such a model, the model is too large, or the
                vendor refuses, fails, or does not answer.
        """
        self.remove_unknown_kwargs(**kwargs)
        time = clock(time_limit)
        if len(read(bqm)) == 0:
            return empty_set(bqm, method=METHOD, kind=describe(self._child), seconds=time.seconds)
        source = describe(self._child)
        with told(source):
            seconds = _enough(self._child.min_time_limit(bqm), time_limit, source)
            submitted = self._child.sample(bqm, time_limit=seconds)
        found = wait(submitted, seconds + PATIENCE, source)
        return _with_info(found, source, time, _kept(self._folder, source, found, bqm))


class HybridCQMSampler:
    """The vendor's hybrid service of constrained models: it keeps one option per unit and the limits by itself.

    Args:
        child: a `LeapHybridCQMSampler`.
        folder: for the reads; None keeps none.
    """

    def __init__(self, child: Any, folder: Path | None = None) -> None:
        self.children, self._folder = [child], folder
        self.parameters: dict[str, list[str]] = {"time_limit": []}
        self.properties = {"method": METHOD}

    def sample_cqm(self, cqm: dimod.ConstrainedQuadraticModel, *, time_limit: float | None = None) -> dimod.SampleSet:
        """What the service finds within ``time_limit`` seconds of its own, by default as few as it takes.

        Raises:
            HardwareError: as `HybridSampler.sample`.
        """
        time, (child,) = clock(time_limit), self.children
        source = describe(child)
        with told(source):
            seconds = _enough(child.min_time_limit(cqm), time_limit, source)
            submitted = child.sample_cqm(cqm, time_limit=seconds)
        found = wait(submitted, seconds + PATIENCE, source)
        return _with_info(found, source, time, _kept(self._folder, source, found, None))


def _kept(folder: Path | None, source: str, found: dimod.SampleSet, model: Any) -> dict[str, Any]:
    """Where the reads were written, if they were."""
    return {} if folder is None else {"reads_file": str(keep(folder, source, found, model))}


def _enough(least: float, time_limit: float | None, source: str) -> float:
    """The seconds to ask for."""
    if time_limit is not None and time_limit < least:
        raise HardwareError(f"{source}: it takes at least {least:.3g} s for this model: give time_limit={least:.3g}")
    return float(least if time_limit is None else time_limit)


def _with_info(found: dimod.SampleSet, source: str, time: Clock, kept: dict[str, Any]) -> dimod.SampleSet:
    """The samples with our words of what they are, and the times (milliseconds) that the service says it took."""
    told_by = {
        name: found.info[f"{name}_time"] / 1e3
        for name in ("run", "charge", "qpu_access")
        if isinstance(found.info.get(f"{name}_time"), int | float)
    }
    problem = found.info.get("problem_id")
    found.info.clear()
    found.info.update(method=METHOD, kind=source, seconds=time.seconds, **kept)
    found.info.update({f"{name}_ms": value for name, value in told_by.items()})
    if problem is not None:
        found.info["problem_id"] = problem
    return found
