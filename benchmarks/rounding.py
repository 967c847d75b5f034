"""Weights of real layers to few bits: the search of `coldpress.round_weights` beside GPTQ and SparseGPT.

    python benchmarks/rounding.py --model cifar_resnet56 --weights W --data-dir DIR --out results/rounding.json

For every layer and number of bits: the output error of GPTQ in activation order, of the search on the same grid, of
the search with its scales fitted, of GPTQ again on those scales, and, at half of the weights and 4 bits, of SparseGPT
and the search. Errors are tr (W - Q) H (W - Q)^T with H from calibration images of train.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import numpy as np

import coldpress as cp
from coldpress.space.layers import layer_shapes
from coldpress.surgery.moments import collect_moments, unfolds
from record import Record, arguments, task_of


def row(task: cp.Task, name: str, hessian: Any, bits: int, sparsity: float | None, seed: int) -> dict[str, Any]:
    """One layer at so many bits."""
    weight = task.model.get_submodule(name).get_parameter("weight").flatten(1)
    start = time.perf_counter()
    fixed = cp.round_weights(weight, hessian, bits, sparsity, refine_scales=False, seed=seed)
    middle = time.perf_counter()
    fitted = cp.round_weights(weight, hessian, bits, sparsity, seed=seed)
    end = time.perf_counter()
    again = cp.round_weights(weight, hessian, bits, sparsity, scales=fitted.scales, refine_scales=False, sweeps=0)
    whole = float(((weight.double() @ hessian) * weight.double()).sum())
    return {
        "one_pass": fixed.start_error / whole,
        "search": fixed.error / whole,
        "fitted": fitted.error / whole,
        "one_pass_on_fitted": again.error / whole,
        "zeros": float((fixed.levels == 0).float().mean()),
        "seconds": middle - start,
        "seconds_fitted": end - middle,
        "shape": list(weight.shape),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--bits", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--images", type=int, default=512)
    parser.set_defaults(seeds=[0])
    args = parser.parse_args()
    record = Record(args, "layer", "bits", "sparsity", "seed")
    for seed in args.seeds:
        measure(args, record, seed)
    record.show(table(record.rows))


def measure(args: argparse.Namespace, record: Record, seed: int) -> None:
    """All layers with one seed."""
    task = task_of(args, seed)
    names = [n for n in layer_shapes(task.model, task.example_inputs) if unfolds(task.model.get_submodule(n))]
    moments = collect_moments(task.model, names, task.calibration(args.images)[0], seed=seed)
    for name in names:
        if name not in moments:
            continue
        hessian = moments[name].matrix[:-1, :-1]
        for bits, sparsity in [*((bits, None) for bits in args.bits), (4, 0.5)]:
            key = {"layer": name, "bits": bits, "sparsity": sparsity, "seed": seed}
            if not record.has(**key):
                record.add(**key, **row(task, name, hessian, bits, sparsity, seed), peak=peak())


def peak() -> int:
    """Bytes of memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def table(rows: list[dict[str, Any]]) -> str:
    """Ratios of errors, geometric means over layers (least to most), and the seconds of all layers."""
    lines = [
        "| bits, zeros | layers | search / one pass | fitted / one pass | fitted / one pass on its scales | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for bits, sparsity in dict.fromkeys((row["bits"], row["sparsity"]) for row in rows):
        own = [row for row in rows if (row["bits"], row["sparsity"]) == (bits, sparsity)]
        pairs = (("search", "one_pass"), ("fitted", "one_pass"), ("fitted", "one_pass_on_fitted"))
        cells = []
        for above, below in pairs:
            ratios = np.array([row[above] / row[below] for row in own])
            cells.append(f"{np.exp(np.log(ratios).mean()):.3f} ({ratios.min():.3f} to {ratios.max():.3f})")
        seconds = sum(row["seconds"] + row["seconds_fitted"] for row in own)
        words = f"{bits}" + (f", {sparsity:.0%}" if sparsity else "")
        lines.append(f"| {words} | {len(own)} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
