"""How far modelled layer times are off, where times were measured too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from coldpress.cost.profiles import ModelledTable, host_as_unknown
from coldpress.cost.table import LatencyTable


@dataclass(frozen=True)
class ModelError:
    """How modelled layer times compare with measured ones.

    Attributes:
        layers: how many were compared.
        median: of modelled over measured.
        spread: the factor, above 1, that half of the ratios are within of their median.
        correlation: rank correlation.
    """

    layers: int
    median: float
    spread: float
    correlation: float


def model_error(table: LatencyTable, modelled: ModelledTable) -> ModelError | None:
    """Compare a model with all layers that a table holds; None for fewer than three."""
    pairs = [(seconds, modelled.seconds(shape)) for shape, seconds in table.measured()]
    if len(pairs) < 3:
        return None
    measured, predicted = np.array(pairs).T
    logs = np.log(predicted / measured)
    spread = float(np.exp(np.median(np.abs(logs - np.median(logs)))))
    rank = stats.spearmanr(measured, predicted)
    return ModelError(len(pairs), float(np.exp(np.median(logs))), spread, float(rank.statistic))


def host_error(threads: int = 1, batch: int = 1) -> ModelError | None:
    """The error on this machine, modelled as if it were not here; None where fewer than three layers were measured.

    Args:
        threads, batch: as layers were measured.
    """
    here = LatencyTable(threads=threads, batch=batch)
    return model_error(here, ModelledTable(host_as_unknown(), threads=threads, batch=batch))
