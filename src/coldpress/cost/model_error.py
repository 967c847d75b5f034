"""How far modelled times are off, where times were measured too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from coldpress.cost.profiles import ModelledTable, host_as_unknown
from coldpress.cost.table import LatencyTable


@dataclass(frozen=True)
class Error:
    """How modelled times compare with measured ones.

    Attributes:
        count: how many were compared.
        median: of modelled over measured.
        spread: the factor, above 1, that half of the ratios are within of their median.
        correlation: rank correlation.
    """

    count: int
    median: float
    spread: float
    correlation: float


@dataclass(frozen=True)
class ModelError:
    """The error for single layers and for whole networks; None for fewer than three of them."""

    layers: Error | None
    networks: Error | None


def model_error(table: LatencyTable, modelled: ModelledTable) -> ModelError:
    """Compare a model with all layers and all networks that a table holds."""
    return ModelError(
        _error([(seconds, modelled.seconds(shape)) for shape, seconds in table.measured()]),
        _error([(table.networks[name], modelled.network(of)) for name, of in table.operators.items()]),
    )


def host_error(threads: int = 1, batch: int = 1) -> ModelError:
    """The error on this machine, modelled as if it were not here.

    Args:
        threads, batch: as times were measured.
    """
    here = LatencyTable(threads=threads, batch=batch)
    return model_error(here, ModelledTable(host_as_unknown(), threads=threads, batch=batch))


def _error(pairs: Sequence[tuple[float, float]]) -> Error | None:
    if len(pairs) < 3:
        return None
    measured, predicted = np.array(pairs).T
    logs = np.log(predicted / measured)
    spread = float(np.exp(np.median(np.abs(logs - np.median(logs)))))
    rank = stats.spearmanr(measured, predicted)
    return Error(len(pairs), float(np.exp(np.median(logs))), spread, float(rank.statistic))
