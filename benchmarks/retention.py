"""Seconds to prune the weights of a whole network by softmax importance with entanglement, and the sparsity reached.

python benchmarks/retention.py --model torchvision:resnet18 --out results/retention_resnet18.json
"""

from __future__ import annotations

import time

from torch import nn

from coldpress import zoo
from coldpress.surgery.retention import prune_weights
from record import Record, arguments

CLASSES, STAGES = 10, 3


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.1, 0.3779, 0.9])
    parser.add_argument("--entanglements", type=float, nargs="+", default=[0.0, 0.1, 0.5])
    args = parser.parse_args()
    record = Record(args, "sparsity", "entanglement", "seed")
    model = zoo.model(args.model, CLASSES)
    for seed in args.seeds:
        for sparsity in args.sparsities:
            for entanglement in args.entanglements:
                measure(record, model, sparsity, entanglement, seed)
    record.show(table(record))


def measure(record: Record, model: nn.Module, sparsity: float, entanglement: float, seed: int) -> None:
    """One pruning."""
    start, used = time.perf_counter(), time.process_time()
    found = prune_weights(model, sparsity, entanglement=entanglement, stages=STAGES, seed=seed)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    weights = sum(mask.numel() for mask in found.masks.values())
    gone = sum(int((~mask).sum()) for mask in found.masks.values())
    name = {"sparsity": sparsity, "entanglement": entanglement, "seed": seed}
    record.add(**name, seconds=seconds, processor_seconds=used, weights=weights, realised=gone / weights)


def table(record: Record) -> str:
    """Worst of all seeds, as Markdown."""
    lines = ["| asked | P_entangle | realised, worst of seeds | seconds, most | weights |", "|---|---|---|---|---|"]
    for name in dict.fromkeys((row["sparsity"], row["entanglement"]) for row in record.rows):
        rows = [row for row in record.rows if (row["sparsity"], row["entanglement"]) == name]
        worst = max((row["realised"] for row in rows), key=lambda found: abs(found - name[0]))
        seconds = max(row["seconds"] for row in rows)
        lines.append(f"| {name[0]:.2%} | {name[1]} | {worst:.4%} | {seconds:.2f} | {rows[0]['weights']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
