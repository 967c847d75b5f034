"""Whole networks in few bits, no training: ours beside GPTQ and rounding to nearest in no fewer bytes.

    python benchmarks/few_bits.py --model cifar_resnet56 --weights W --data-dir DIR --average 2.5 --bits 3 4 \
        --seeds 0 1 2 3 4 5 6 7 8 9 --out benchmarks/results/few_bits_resnet56.json

GPTQ and rounding to nearest take every layer in network order on inputs from the rounded prefix, as ours does, on
grids that span each row's range; biases take up the mean of what is left, and BatchNorms are recalibrated where that
helps on images that nothing is fitted to, for all alike. At an average of bits they are given our forms, floats where
ours keeps them, and, by themselves, as many whole bits in every layer as ours has room for. Packed they never have
fewer bytes than ours: some layers get a bit more, so that all together just reach them; layers in floats count. A seed
draws the calibration images, and is that of the search and the solver. One thread, or ``--threads``. Seconds are of
the rounding, and the peak of resident memory is of a process that does nothing else than ours.
"""

from __future__ import annotations

import argparse
import copy
import math
import multiprocessing
import time
from dataclasses import replace
from typing import Any

import numpy as np

import coldpress as cp
from coldpress.few_bits.choice import fitted_and_judges, matrix, roundable
from coldpress.few_bits.network import packed_bytes
from coldpress.memory import keep_freed_memory, peak_resident
from coldpress.recovery import apart, nearer
from coldpress.surgery.round_layers import round_layers
from record import Record, arguments, spread, task_of, use_threads

Shapes = dict[str, tuple[int, int]]
MOST_BITS = 8
ONE_PASS = {"GPTQ": "gptq", "rounding to nearest": "nearest"}


def ours(args: argparse.Namespace, seed: int, asked: dict[str, Any]) -> tuple[dict[str, Any], dict[str, cp.Form]]:
    """Our network's row, and the forms of its layers; in a process of its own, so that the peak of memory is too."""
    keep_freed_memory()
    use_threads(args.threads or 1)
    task, start = task_of(args, seed), time.perf_counter()
    found = cp.round_network(task, calibration=args.calibration, refit_images=args.images, seed=seed, **asked)
    row = {
        "seconds": time.perf_counter() - start,
        "peak": peak_resident(),
        "average_bits": found.average_bits,
        "bytes": found.bytes,
        "accuracy": task.evaluate(found.model, "test").accuracy,
        "kl": found.kl,
        "spearman": found.spearman,
        "gap": None if found.decided is None else found.decided.solver["gap"],
        "forms": {name: form.label for name, form in found.forms.items()},
    }
    return row, dict(found.forms)


def one_pass(
    task: cp.Task, args: argparse.Namespace, seed: int, start: str, forms: dict[str, cp.Form], least: int
) -> dict[str, Any]:
    """The row of GPTQ, of OBC or of rounding to nearest at some forms, or a bit above them: in ``least`` bytes or more.

    Layers without a form keep floats, which count. Zeros that a layer of zeros gets on top of those asked for take no
    bytes, so how many there are is known afterwards.
    """
    begun = time.perf_counter()
    inputs, judges = fitted_and_judges(task, args.calibration, args.images)
    shapes = shapes_of(task)
    floats = sum(4 * math.prod(shape) for name, shape in shapes.items() if name not in forms)
    while True:
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
        size = floats + sum(packed_bytes(layers[name], form) for name, form in forms.items())
        if size >= least or all(form.bits == MOST_BITS for form in forms.values()):
            break
        forms = raised(forms, shapes, least - size)
    student = nearer(task.model, student, inputs, judges)
    return {
        "seconds": time.perf_counter() - begun,
        "average_bits": 8 * size / sum(math.prod(shape) for shape in shapes.values()),
        "bytes": size,
        "accuracy": task.evaluate(student, "test").accuracy,
        "kl": apart(task.model, student, judges),
        "forms": {name: form.label for name, form in forms.items()},
    }


def shapes_of(task: cp.Task) -> Shapes:
    """Rows and columns of all layers that can be rounded."""
    return {name: matrix(task.model, name) for name in roundable(task)}


def raised(forms: dict[str, cp.Form], shapes: Shapes, short: int) -> dict[str, cp.Form]:
    """The forms with a bit more in those layers that together add ``short`` bytes, and as few more as can be."""
    higher = {name: replace(form, bits=form.bits + 1) for name, form in forms.items() if form.bits < MOST_BITS}
    gains = {name: form.bytes(*shapes[name]) - forms[name].bytes(*shapes[name]) for name, form in higher.items()}
    reached: dict[int, tuple[str, ...]] = {0: ()}
    for name in sorted(gains, key=lambda n: gains[n]):  # of equal sums the one of small layers
        for gain, names in list(reached.items()):
            if gain < short:
                reached.setdefault(gain + gains[name], (*names, name))
    enough = [gain for gain in reached if gain >= short]
    return forms | {name: higher[name] for name in (reached[min(enough)] if enough else higher)}


def whole_bits(shapes: Shapes, least: int) -> dict[str, cp.Form]:
    """All layers in as many bits as ``least`` bytes have room for, and some in one more, so that they reach them."""

    def size(bits: int) -> int:
        return sum(cp.Form(bits).bytes(*shape) for shape in shapes.values())

    low = max((bits for bits in range(2, MOST_BITS + 1) if size(bits) <= least), default=2)
    return raised(dict.fromkeys(shapes, cp.Form(low)), shapes, least - size(low))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--bits", type=int, nargs="*", default=[])
    parser.add_argument("--average", type=float, nargs="*", default=[])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--calibration", type=int, default=256)
    parser.add_argument("--obc", action="store_true", help="beside Optimal Brain Compression too, which takes minutes")
    parser.add_argument("--threads", type=int, help="of torch and numba, one by default")
    parser.set_defaults(seeds=list(range(10)))
    args = parser.parse_args()
    use_threads(args.threads or 1)
    record = Record(args, "asked", "method", "seed")
    for seed in args.seeds:
        task = task_of(args, seed)
        if not record.has(method="original", seed=seed):
            record.add(method="original", asked="", seed=seed, accuracy=task.evaluate(task.model, "test").accuracy)
        for asked in ({"bits": bits} for bits in args.bits):
            measure(task, args, record, seed, asked)
        for asked in ({"average_bits": average} for average in args.average):
            measure(task, args, record, seed, asked)
    record.show(table(record.rows), "Medians")


def measure(task: cp.Task, args: argparse.Namespace, record: Record, seed: int, asked: dict[str, Any]) -> None:
    """All methods at so many bits."""
    (kind, number), *_ = asked.items()
    name = f"{number:g} bits" + (" on average" if kind == "average_bits" else "")
    if record.has(asked=name, method="ours", seed=seed):
        return
    rows = {}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        rows["ours"], forms = pool.apply(ours, (args, seed, asked))
    least, shapes = rows["ours"]["bytes"], shapes_of(task)
    for method, start in (ONE_PASS | ({"OBC": "obc"} if args.obc else {})).items():
        if kind == "bits":
            rows[method] = one_pass(task, args, seed, start, forms, least)
            continue
        rows[f"{method}, our forms"] = one_pass(task, args, seed, start, forms, least)
        rows[f"{method}, whole bits"] = one_pass(task, args, seed, start, whole_bits(shapes, least), least)
    for method, row in reversed(rows.items()):  # ours last: its row says that all are there
        record.add(asked=name, method=method, seed=seed, **row)


def table(rows: list[dict[str, Any]]) -> str:
    """Accuracy, seconds and the peak of memory by what was asked for and by method, as Markdown."""
    lines = [
        "| asked | method | seeds | bits a weight | kB | accuracy | seconds | peak, GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for asked, method in dict.fromkeys((row["asked"], row["method"]) for row in rows):
        own = [row for row in rows if (row["asked"], row["method"]) == (asked, method)]
        bits = spread([row["average_bits"] for row in own if "average_bits" in row], 3, np.median)
        size = spread([row["bytes"] / 1e3 for row in own if "bytes" in row], 2, np.median)
        accuracy = spread([100 * row["accuracy"] for row in own], 2, np.median)
        seconds = spread([row["seconds"] for row in own if "seconds" in row], 1, np.median)
        peak = spread([row["peak"] / 1e9 for row in own if row.get("peak")], 2, np.median)
        lines.append(f"| {asked} | {method} | {len(own)} | {bits} | {size} | {accuracy} | {seconds} | {peak} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
