"""Export to ONNX, int8, sessions and clocks: all that touches ONNX Runtime. Knows nothing of plans."""

from coldpress.runtime.clock import Timing, cold, time_sessions
from coldpress.runtime.devices import Device, device
from coldpress.runtime.onnx import export
from coldpress.runtime.onnx_files import file_bytes, weight_nodes
from coldpress.runtime.quantize import quantize
from coldpress.runtime.sessions import predict, run, session

__all__ = [
    "Device",
    "Timing",
    "cold",
    "device",
    "export",
    "file_bytes",
    "predict",
    "quantize",
    "run",
    "session",
    "time_sessions",
    "weight_nodes",
]
