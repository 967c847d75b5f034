"""Real layers as products of two factors in few levels: annealed, beside the whitened SVD rounded by GPTQ.

    python benchmarks/annealed_factors.py --model cifar_resnet20 --weights W --data-dir DIR \\
        --out results/annealed_factors.json

For every layer, share of the full rank and pair of forms: the output error of the SVD's factors as floats, of the same
brought into their forms in one pass (GPTQ at the best of many scales a row; SparseGPT for n:m), of these with the
factor that stays floats fitted again by least squares, of descent alone from there, and after annealing; all at the
same bytes. Errors are tr (W - AB) H (W - AB)^T over tr W H W^T, with H from calibration images of train.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

from coldpress.space.layers import layer_shapes
from coldpress.surgery.annealed_factors import annealed_factors
from coldpress.surgery.factor_errors import OutputError
from coldpress.surgery.factor_forms import FactorForm
from coldpress.surgery.moments import collect_moments, unfolds
from coldpress.surgery.round_groups import covariance
from record import Record, arguments, task_of

PAIRS = (
    ("ternary", "float"),
    ("float", "ternary"),
    ("ternary", "ternary"),
    ("int8", "float"),
    ("float", "int8"),
    ("float", "2:4"),
)


def row(weight: torch.Tensor, hessian: torch.Tensor, rank: int, forms: tuple[str, str], seed: int) -> dict[str, Any]:
    """One layer at one rank, in one pair of forms."""
    begin = time.process_time()
    found = annealed_factors(weight, rank, hessian=hessian, left=forms[0], right=forms[1], seed=seed)
    seconds = time.process_time() - begin
    measure = OutputError(weight.double(), hessian.double())
    whole = float(((measure.weight @ hessian) * measure.weight).sum())
    left, right = (factor.value for factor in found.start)
    if forms[0] == "float":
        left = measure.best_left(right)[0]
    elif forms[1] == "float":
        right = measure.best_right(left)
    sizes = FactorForm.named(forms[0]).bytes(len(weight), rank), FactorForm.named(forms[1]).bytes(rank, weight.shape[1])
    return {
        "floats": found.float_error / whole,
        "one_pass": found.start_error / whole,
        "fitted_again": float(measure.of(left, right)) / whole,
        "descent": found.history[0] / whole,
        "annealed": found.error / whole,
        "bytes": sum(sizes),
        "bytes_dense": 4 * weight.numel(),
        "seconds": seconds,
        "shape": list(weight.shape),
        "rank": rank,
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--layers", nargs="+", help="by default all that unfold")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.75], help="of the full rank")
    parser.add_argument("--images", type=int, default=512)
    parser.set_defaults(seeds=[0])
    args = parser.parse_args()
    record = Record(args, "layer", "share", "left", "right", "seed")
    for seed in args.seeds:
        measure(args, record, seed)
    record.show(table(record.rows))


def measure(args: argparse.Namespace, record: Record, seed: int) -> None:
    """All layers with one seed."""
    task = task_of(args, seed)
    shapes = layer_shapes(task.model, task.example_inputs)
    names = args.layers or [name for name in shapes if unfolds(task.model.get_submodule(name))]
    moments = collect_moments(task.model, names, task.calibration(args.images)[0], seed=seed)
    for name in (name for name in names if name in moments):
        weight = task.model.get_submodule(name).get_parameter("weight").detach().flatten(1)
        hessian = covariance(moments[name].matrix)
        for share in args.shares:
            for forms in PAIRS:
                key = {"layer": name, "share": share, "left": forms[0], "right": forms[1], "seed": seed}
                if not record.has(**key):
                    rank = max(round(share * min(weight.shape)), 1)
                    record.add(**key, **row(weight, hessian, rank, forms, seed))


def table(rows: list[dict[str, Any]]) -> str:
    """Ratios of errors, geometric means over layers (least to most), and the seconds of all layers."""
    pairs = (("floats", "one_pass"), ("fitted_again", "one_pass"), ("descent", "one_pass"), ("annealed", "one_pass"))
    pairs += (("annealed", "fitted_again"),)
    heads = [f"{above.replace('_', ' ')} / {below.replace('_', ' ')}" for above, below in pairs]
    lines = [
        "| left, right | rank | layers | " + " | ".join(heads) + " | bytes / dense | CPU seconds |",
        "|---" * (len(heads) + 5) + "|",
    ]
    for left, right, share in dict.fromkeys((row["left"], row["right"], row["share"]) for row in rows):
        own = [row for row in rows if (row["left"], row["right"], row["share"]) == (left, right, share)]
        cells = []
        for above, below in pairs:
            ratios = np.array([row[above] / max(row[below], 1e-12) for row in own])
            mean = np.exp(np.log(np.maximum(ratios, 1e-12)).mean())
            cells.append(f"{mean:.3f} ({ratios.min():.3f} to {ratios.max():.3f})")
        size = sum(row["bytes"] for row in own) / sum(row["bytes_dense"] for row in own)
        seconds = sum(row["seconds"] for row in own)
        words = [f"{left}, {right}", f"{share:g}", str(len(own)), *cells, f"{size:.3f}", f"{seconds:.0f}"]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
