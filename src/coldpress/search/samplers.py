"""Optuna samplers by name."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import optuna
from optuna.samplers import BaseSampler

from coldpress.errors import SearchError, first_line
from coldpress.search.qiea import QIEASampler


def _cmaes(seed: int) -> BaseSampler:
    import_module("cmaes")  # Optuna would miss it in the first trial
    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)


SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "qiea": QIEASampler,
    "legacy": lambda seed: QIEASampler(legacy=True, seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
    "nsga2": optuna.samplers.NSGAIISampler,
    "random": optuna.samplers.RandomSampler,
    "cmaes": _cmaes,
    "gp": optuna.samplers.GPSampler,
}
REPLAYED = ("qiea", "legacy")
"""These draw by seed and trial number, whoever asks: all workers take the same seed."""


def sampler(name: str, seed: int, worker: int = 0) -> BaseSampler:
    """The sampler called ``name``: one of `SAMPLERS`, or a dotted path to a class, ``package.module.Class``.

    Args:
        name: what to search by.
        seed: of its draws, where it takes one.
        worker: tells workers apart that would otherwise all draw the same.

    Raises:
        SearchError: there is no such sampler, it lacks a package that it needs, or wants more than a seed.
    """
    own = seed if name in REPLAYED else (seed + 7919 * worker) % 2**32
    make = SAMPLERS.get(name) or _dotted(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            found = make(seed=own) if "seed" in inspect.signature(make).parameters else make()
    except ImportError as error:
        raise SearchError(f"the sampler {name} needs a package that is not installed: {error}") from error
    except (TypeError, ValueError) as error:
        raise SearchError(
            f"the sampler {name} cannot be made with a seed alone ({first_line(error)}): write a function that takes "
            "the argument seed, or none, and returns the sampler, and give package.module.function"
        ) from error
    if not isinstance(found, BaseSampler):
        raise SearchError(f"{name} is no Optuna sampler; choose one of {', '.join(SAMPLERS)}, or package.module.Class")
    return found


def _dotted(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        why = f" ({first_line(error)})" if module else ""
        raise SearchError(
            f"no sampler is called {name!r}{why}; choose one of {', '.join(SAMPLERS)}, or package.module.Class"
        ) from error
    if not callable(found):
        raise SearchError(f"{name} is not a class")
    return cast("Callable[..., Any]", found)
