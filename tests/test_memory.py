"""Freed memory stays in the process."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from coldpress.memory import peak_resident

CODE = """
import resource, torch
from coldpress.memory import keep_freed_memory
known = {keep} and keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults(), known)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="this system does not tell")
def test_the_peak_is_of_the_process_alone() -> None:
    large = torch.ones(60_000_000)
    code = "from coldpress.memory import peak_resident as peak; x = bytearray(10**8); print(peak())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert large.numel() * 4 + 10**8 < peak_resident()
    assert 10**8 < int(run.stdout) < peak_resident() - 10**8


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no mallopt")
def test_memory_is_not_fetched_again_and_again() -> None:
    def faults(keep: bool) -> tuple[int, str]:
        run = [sys.executable, "-c", CODE.format(keep=keep)]
        count, known = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
        return int(count), known

    (many, _), (few, known) = faults(False), faults(True)
    assert known == "True"
    assert few < many / 10
