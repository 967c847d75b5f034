"""Whole networks in few bits, no training: ours beside GPTQ and rounding to nearest at equal bytes.

    python benchmarks/few_bits.py --model cifar_resnet56 --weights W --data-dir DIR --average 2.5 --bits 3 4 \
        --out benchmarks/results/few_bits_resnet56.json

GPTQ and rounding to nearest take every layer in network order on inputs from the rounded prefix, as ours does, on
grids that span each row's range; biases take up the mean of what is left, and BatchNorms are recalibrated where that
helps, for all alike. At an average of bits they get our forms, and, by themselves, 2 bits in the largest layers and 3
in the others.
"""

from __future__ import annotations

import argparse
import copy
import math
import resource
import time
from typing import Any

import coldpress as cp
from coldpress.few_bits import nearer, packed_bytes
from coldpress.surgery.round_layers import round_layers
from record import Record, arguments, spread, task_of

ONE_PASS = {"GPTQ": "gptq", "rounding to nearest": "nearest"}


def ours(task: cp.Task, args: argparse.Namespace, seed: int, **asked: Any) -> tuple[dict[str, Any], dict[str, cp.Form]]:
    """Our network's row, and the forms of its layers."""
    start = time.perf_counter()
    found = cp.round_network(task, calibration=args.calibration, refit_images=args.images, seed=seed, **asked)
    row = {
        "average_bits": found.average_bits,
        "bytes": found.bytes,
        "accuracy": task.evaluate(found.model, "test").accuracy,
        "kl": found.kl,
        "spearman": found.spearman,
        "gap": None if found.decided is None else found.decided.solver["gap"],
        "seconds": time.perf_counter() - start,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "forms": {name: form.label for name, form in found.forms.items()},
    }
    return row, found.forms


def one_pass(
    task: cp.Task, args: argparse.Namespace, seed: int, start: str, forms: dict[str, cp.Form]
) -> dict[str, Any]:
    """The row of GPTQ, of OBC or of rounding to nearest at some forms."""
    begun = time.perf_counter()
    inputs, _ = task.calibration(max(args.images, 2 * args.calibration))
    judges = [tensor[args.calibration : 2 * args.calibration] for tensor in inputs]
    student = copy.deepcopy(task.model)
    layers = round_layers(
        student,
        task.model,
        inputs,
        forms,
        start=start,
        sweeps=0,
        refine_scales=False,
        damping=math.inf,
        seed=seed,
    )
    student = nearer(task.model, student, inputs, judges)
    size = sum(packed_bytes(layers[name], form) for name, form in forms.items())
    return {
        "average_bits": 8 * size / sum(layer.levels.numel() for layer in layers.values()),
        "bytes": size,
        "accuracy": task.evaluate(student, "test").accuracy,
        "seconds": time.perf_counter() - begun,
    }


def by_size(task: cp.Task, names: list[str], average_bits: float) -> dict[str, cp.Form]:
    """2 bits in the largest layers and 3 in the others, within the average."""
    shapes = {n: tuple(task.model.get_submodule(n).get_parameter("weight").flatten(1).shape) for n in names}
    forms = dict.fromkeys(names, cp.Form(3))
    allowed = average_bits / 8 * sum(math.prod(shape) for shape in shapes.values())
    for name in sorted(names, key=lambda n: -math.prod(shapes[n])):
        if sum(form.bytes(*shapes[n]) for n, form in forms.items()) <= allowed:
            break
        forms[name] = cp.Form(2)
    return forms


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--bits", type=int, nargs="*", default=[])
    parser.add_argument("--average", type=float, nargs="*", default=[])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--calibration", type=int, default=256)
    parser.add_argument("--obc", action="store_true", help="beside Optimal Brain Compression too, which takes minutes")
    args = parser.parse_args()
    record = Record(args, "asked", "method", "seed")
    for seed in args.seeds:
        task = task_of(args, seed)
        if not record.has(method="original", seed=seed):
            record.add(method="original", asked="", seed=seed, accuracy=task.evaluate(task.model, "test").accuracy)
        for asked in ({"bits": bits} for bits in args.bits):
            measure(task, args, record, seed, asked)
        for asked in ({"average_bits": average} for average in args.average):
            measure(task, args, record, seed, asked)
    record.show(table(record.rows))


def measure(task: cp.Task, args: argparse.Namespace, record: Record, seed: int, asked: dict[str, Any]) -> None:
    """All methods at so many bits."""
    (kind, number), *_ = asked.items()
    name = f"{number:g} bits" + (" on average" if kind == "average_bits" else "")
    if record.has(asked=name, method="ours", seed=seed):
        return
    rows = {}
    rows["ours"], forms = ours(task, args, seed, **asked)
    for method, start in (ONE_PASS | ({"OBC": "obc"} if args.obc else {})).items():
        rows[method] = one_pass(task, args, seed, start, forms)
        if kind == "average_bits":
            rows[f"{method}, 2 and 3 bits by size"] = one_pass(
                task, args, seed, start, by_size(task, list(forms), number)
            )
    for method, row in reversed(rows.items()):  # ours last: its row says that all are there
        record.add(asked=name, method=method, seed=seed, **row)


def table(rows: list[dict[str, Any]]) -> str:
    """Accuracy by what was asked for and by method, as Markdown."""
    lines = ["| asked | method | seeds | bits a weight | kB | accuracy |", "|---|---|---|---|---|---|"]
    for asked, method in dict.fromkeys((row["asked"], row["method"]) for row in rows):
        own = [row for row in rows if (row["asked"], row["method"]) == (asked, method)]
        bits = spread([row["average_bits"] for row in own if "average_bits" in row])
        size = spread([row["bytes"] / 1e3 for row in own if "bytes" in row], 1)
        accuracy = spread([100 * row["accuracy"] for row in own])
        lines.append(f"| {asked} | {method} | {len(own)} | {bits} | {size} | {accuracy} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
