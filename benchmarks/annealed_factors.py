"""Real layers as products of two factors in few levels: annealed, beside the whitened SVD rounded by GPTQ.

    python benchmarks/annealed_factors.py --model cifar_resnet20 --weights W --data-dir DIR \\
        --out results/annealed_factors.json

For every layer, share of the full rank and pair of forms: the output error of the SVD's factors as floats, of the same
brought into their forms in one pass (GPTQ at the best of many scales a row; SparseGPT for n:m), of these with the
factor that stays floats fitted again by least squares, of descent alone from there, and after annealing; all at the
same bytes. Errors are tr (W - AB) H (W - AB)^T over tr W H W^T, with H from calibration images of train.

With --elements each entry's squared error has a weight of its own, the mean squared gradient of the calibration images'
losses (the diagonal of the Fisher information), and the SVD, which has no closed form for that, is the one of the best
weights of rows times weights of columns; beside it the plain SVD as floats. Give it another --out.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from typing import Any

import numpy as np
import torch

from coldpress.energy.fisher import weight_fisher
from coldpress.space.layers import layer_shapes
from coldpress.surgery.annealed_factors import annealed_factors
from coldpress.surgery.factor_errors import ElementError, FactorError, OutputError
from coldpress.surgery.factor_forms import FactorForm
from coldpress.surgery.moments import collect_moments, unfolds
from coldpress.surgery.round_groups import covariance
from coldpress.task import Task
from record import Record, arguments, task_of

PAIRS = (
    ("ternary", "float"),
    ("float", "ternary"),
    ("ternary", "ternary"),
    ("int8", "float"),
    ("float", "int8"),
    ("float", "2:4"),
    ("2:4", "2:4"),
    ("float", "float"),
)
"""Forms of the left and the right factor; of floats without weights of entries the SVD is the optimum."""
Case = tuple[dict[str, Any], int, tuple[str, str]]
"""A row's name, its rank, and its forms."""


def row(weight: torch.Tensor, error: FactorError, rank: int, forms: tuple[str, str], seed: int) -> dict[str, Any]:
    """One layer at one rank, in one pair of forms."""
    by_element = isinstance(error, ElementError)
    given = {"elements": error.elements} if isinstance(error, ElementError) else {"hessian": error.hessian}
    begin = time.process_time()
    found = annealed_factors(weight, rank, **given, left=forms[0], right=forms[1], seed=seed)
    seconds = time.process_time() - begin
    nothing = weight.new_zeros(len(weight), rank).double(), weight.new_zeros(rank, weight.shape[1]).double()
    whole = float(error.of(*nothing))
    left, right = (factor.value for factor in found.start)
    if forms[0] == "float":
        left = error.best_left(right)[0]
    elif forms[1] == "float":
        right = error.best_right(left)
    sizes = FactorForm.named(forms[0]).bytes(len(weight), rank), FactorForm.named(forms[1]).bytes(rank, weight.shape[1])
    return {
        **({"plain": float(error.of(*plain_svd(weight, rank))) / whole} if by_element else {}),
        "floats": found.float_error / whole,
        "one_pass": found.start_error / whole,
        "fitted_again": float(error.of(left, right)) / whole,
        "descent": found.history[0] / whole,
        "annealed": found.error / whole,
        "bytes": sum(sizes),
        "bytes_dense": 4 * weight.numel(),
        "seconds": seconds,
        "shape": list(weight.shape),
        "rank": rank,
    }


def plain_svd(weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The truncated SVD of the weights themselves."""
    u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
    return u[:, :rank] * s[:rank], v[:rank]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--layers", nargs="+", help="by default all that unfold")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.75], help="of the full rank")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument(
        "--elements", action="store_true", help="weigh each entry's error; takes rank x columns^2 numbers"
    )
    parser.set_defaults(seeds=[0])
    args = parser.parse_args()
    record = Record(args, "layer", "share", "left", "right", "seed")
    for seed in args.seeds:
        measure(args, record, seed)
    record.show(table(record.rows))


def measure(args: argparse.Namespace, record: Record, seed: int) -> None:
    """What is missing of one seed."""
    task = task_of(args, seed)
    shapes = layer_shapes(task.model, task.example_inputs)
    names = args.layers or [name for name in shapes if unfolds(task.model.get_submodule(name))]
    cases = [case for name in names for case in missing(args, record, task, name, seed)]
    errors = errors_of(args, task, list(dict.fromkeys(key["layer"] for key, _, _ in cases)), seed)
    for key, rank, forms in cases:
        if key["layer"] in errors:
            error = errors[key["layer"]]
            record.add(**key, **row(error.weight, error, rank, forms, seed))


def missing(args: argparse.Namespace, record: Record, task: Task, name: str, seed: int) -> list[Case]:
    """A layer's rows that the record has not, but for forms whose pattern is longer than the factor's rows."""
    shape = task.model.get_submodule(name).get_parameter("weight").flatten(1).shape
    found = []
    for share, forms in product(args.shares, PAIRS):
        key = {"layer": name, "share": share, "left": forms[0], "right": forms[1], "seed": seed}
        rank = max(round(share * min(shape)), 1)
        patterns = [FactorForm.named(form).pattern or (1, 1) for form in forms]
        if patterns[0][1] <= rank and patterns[1][1] <= shape[1] and not record.has(**key):
            found.append((key, rank, forms))
    return found


def errors_of(args: argparse.Namespace, task: Task, names: list[str], seed: int) -> dict[str, FactorError]:
    """How each layer's factors are judged."""
    if not names:
        return {}
    inputs = task.calibration(args.images)[0]
    weights = {name: task.model.get_submodule(name).get_parameter("weight").detach().flatten(1) for name in names}
    if args.elements:
        found = weight_fisher(task.model, names, inputs, seed=seed)
        return {name: ElementError(weights[name].double(), found[name].flatten(1)) for name in names}
    moments = collect_moments(task.model, names, inputs, seed=seed)
    return {name: OutputError(weights[name].double(), covariance(own.matrix).double()) for name, own in moments.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """Ratios of errors, geometric means over layers (least to most), and the seconds of all layers."""
    pairs = (("floats", "one_pass"), ("fitted_again", "one_pass"), ("descent", "one_pass"), ("annealed", "one_pass"))
    pairs += (("annealed", "fitted_again"),)
    if all("plain" in row for row in rows):
        pairs += (("floats", "plain"), ("annealed", "plain"))
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
