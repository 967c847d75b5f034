"""Recovery of accuracy after surgery: BatchNorm recalibration, training and distillation."""

from coldpress.recovery.attention import check_attention, kept_heads
from coldpress.recovery.batchnorm import recalibrate
from coldpress.recovery.distil import distil
from coldpress.recovery.hints import stream_inputs
from coldpress.recovery.masks import held, not_zero
from coldpress.recovery.nearest import apart, nearer
from coldpress.recovery.reached import check_reached
from coldpress.recovery.settings import Settings, one_cycle
from coldpress.recovery.train import Epoch, History, fit

__all__ = [
    "Epoch",
    "History",
    "Settings",
    "apart",
    "check_attention",
    "check_reached",
    "distil",
    "fit",
    "held",
    "kept_heads",
    "nearer",
    "not_zero",
    "one_cycle",
    "recalibrate",
    "stream_inputs",
]
