"""Weights of real layers to few bits: the search of `coldpress.round_weights` beside GPTQ and SparseGPT.

    python benchmarks/rounding.py --model cifar_resnet56 --weights W --data-dir DIR --seeds 0 1 2 3 4 5 6 7 8 9 \
        --out results/rounding.json

For every layer and number of bits: the output error of GPTQ in activation order, of the search on the same grid, of
the search with its scales fitted, of GPTQ again on those scales, and, at half of the weights and 4 bits, of SparseGPT
and the search. Errors are tr (W - Q) H (W - Q)^T with H from calibration images of train. A seed draws the images, the
positions that convolutions are sampled at, and the annealing: all but the weights. One thread.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import numpy as np

import coldpress as cp
from coldpress.space.layers import layer_shapes
from coldpress.surgery.moments import MOST_COLUMNS, collect_moments, columns, unfolds
from record import Record, arguments, one_thread, spread, task_of


def row(task: cp.Task, name: str, hessian: Any, bits: int, sparsity: float | None, seed: int) -> dict[str, Any]:
    """One layer at so many bits."""
    weight = task.model.get_submodule(name).get_parameter("weight").detach().flatten(1)
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
    parser.add_argument("--layers", nargs="+", help="all by default")
    parser.add_argument("--every", type=int, help="of those, every so many")
    parser.set_defaults(seeds=list(range(10)))
    args = parser.parse_args()
    one_thread()
    record = Record(args, "layer", "bits", "sparsity", "seed")
    for seed in args.seeds:
        measure(args, record, seed)
    record.show(table(record.rows), "Medians")


def measure(args: argparse.Namespace, record: Record, seed: int) -> None:
    """All layers with one seed, where rows are missing."""
    task = task_of(args, seed)
    names, forms = layers(args, task), [*((bits, None) for bits in args.bits), (4, 0.5)]
    missing = {
        name: left
        for name in names
        if (left := [f for f in forms if not record.has(layer=name, bits=f[0], sparsity=f[1], seed=seed)])
    }
    if not missing:
        return
    moments = collect_moments(task.model, names, task.calibration(args.images)[0], seed=seed)
    for name in missing:
        hessian = moments[name].matrix[:-1, :-1]
        for bits, sparsity in missing[name]:
            found = row(task, name, hessian, bits, sparsity, seed)
            record.add(layer=name, bits=bits, sparsity=sparsity, seed=seed, **found, peak=peak())


def layers(args: argparse.Namespace, task: cp.Task) -> list[str]:
    """Names of the layers that are rounded: those that were asked for, of one group and not too many columns."""
    modules = {name: task.model.get_submodule(name) for name in layer_shapes(task.model, task.example_inputs)}
    known = [name for name, module in modules.items() if unfolds(module) and columns(module) <= MOST_COLUMNS]
    if wrong := set(args.layers or ()) - set(known):
        raise SystemExit(f"--layers: {min(wrong)} is no layer that is rounded here; there are {', '.join(known)}")
    return [name for name in known if name in (args.layers or known)][:: args.every or 1]


def peak() -> int:
    """Bytes of memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


RATIOS = {
    "search / one pass": ("search", "one_pass"),
    "fitted / one pass": ("fitted", "one_pass"),
    "fitted / one pass on its scales": ("fitted", "one_pass_on_fitted"),
}


def table(rows: list[dict[str, Any]]) -> str:
    """Each seed's geometric mean of the layers' ratios of errors and seconds of all layers, and their medians.

    Seeds that lack layers do not count.
    """
    lines = [f"| bits, zeros | layers | seeds | {' | '.join(RATIOS)} | seconds |", "|---" * (len(RATIOS) + 4) + "|"]
    for bits, sparsity in dict.fromkeys((row["bits"], row["sparsity"]) for row in rows):
        own = [row for row in rows if (row["bits"], row["sparsity"]) == (bits, sparsity)]
        names = {row["layer"] for row in own}
        every = [[row for row in own if row["seed"] == seed] for seed in dict.fromkeys(row["seed"] for row in own)]
        whole = [one for one in every if len(one) == len(names)]
        cells = [cell(whole, *pair) for pair in RATIOS.values()]
        seconds = [sum(row["seconds"] + row["seconds_fitted"] for row in one) for one in whole]
        words = f"{bits}" + (f", {sparsity:.0%}" if sparsity else "")
        facts = (words, str(len(names)), str(len(whole)), *cells, spread(seconds, 0, np.median))
        lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines)


def cell(seeds: list[list[dict[str, Any]]], above: str, below: str) -> str:
    """The median over seeds (least to most) of the geometric mean over layers, and the worst layer's own median."""
    if not seeds:
        return ""
    logs = [{row["layer"]: np.log(row[above] / row[below]) for row in one} for one in seeds]
    means = [float(np.exp(np.mean(list(one.values())))) for one in logs]
    worst = max(float(np.exp(np.median([one[name] for one in logs]))) for name in logs[0])
    return f"{spread(means, 3, np.median)}, worst layer {worst:.3f}"


if __name__ == "__main__":
    main()
