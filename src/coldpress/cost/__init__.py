"""What a plan costs: bytes, multiply-accumulates, seconds."""

from coldpress.cost.calibration import calibrate
from coldpress.cost.devices import cache_folder
from coldpress.cost.factors import layer_cost, merged
from coldpress.cost.latency import latency_cost, shapes_of
from coldpress.cost.macs import macs_cost
from coldpress.cost.size import size_cost
from coldpress.cost.table import LatencyTable

__all__ = [
    "LatencyTable",
    "cache_folder",
    "calibrate",
    "latency_cost",
    "layer_cost",
    "macs_cost",
    "merged",
    "shapes_of",
    "size_cost",
]
