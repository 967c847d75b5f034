"""An artifact folder as a run would leave it, with invented but plausible numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def confusion(rng: np.random.Generator, classes: int, accuracy: float, each: int = 500) -> list[list[int]]:
    """A confusion matrix with ``each`` samples a class and mistakes between neighbours in the list."""
    rows = []
    for i in range(classes):
        near = np.exp(-np.abs(np.arange(classes) - i) / 2.0)
        near[i] = 0
        shares = (1 - accuracy) * near / near.sum()
        shares[i] = accuracy
        rows.append(rng.multinomial(each, shares).tolist())
    return rows


def layers(rng: np.random.Generator) -> list[dict[str, Any]]:
    """A ResNet-20 with narrower, factorised, int8 and dropped layers."""
    rows, size, before_in, after_in = [], 32, 3, 3
    names = ["conv1"] + [f"layer{s}.{b}.conv{c}" for s in (1, 2, 3) for b in (0, 1, 2) for c in (1, 2)]
    for i, name in enumerate(names):
        width = 64 * 2 ** max(0, (i - 1) // 6)
        side = size // max(1, width // 64)
        kept = int(rng.choice([1, 1, 0.75, 0.5]) * width)
        rank = [int(kept // 2)] if i % 5 == 3 else []

        def shape(inputs: int, outputs: int, rank: list[int], bits: int, side: int = side) -> dict[str, Any]:
            weights = 9 * inputs * outputs // (2 if rank else 1)
            macs = weights * side * side
            return {
                "in": inputs,
                "out": outputs,
                "kernel": [3, 3],
                "groups": 1,
                "method": "svd" if rank else "dense",
                "rank": rank,
                "bits": bits,
                "macs": macs,
                "bytes": weights * bits // 8 + 4 * outputs,
                "ms": macs * 2e-8 * (0.45 if bits == 8 else 1.0) + 0.004,
            }

        dropped = name.startswith("layer2.2")
        rows.append(
            {
                "name": name,
                "kind": "conv",
                "before": shape(before_in, width, [], 32),
                "after": None if dropped else shape(after_in, kept, rank, 8 if i % 3 else 32),
            }
        )
        before_in, after_in = width, after_in if dropped else kept
    head = {"kernel": None, "groups": 1, "method": "dense", "rank": [], "out": 10, "bits": 32}
    linear = {**head, "in": before_in, "macs": 2560, "bytes": 10280, "ms": 0.003}
    rows.append({"name": "linear", "kind": "linear", "before": linear, "after": {**linear, "in": after_in}})
    return rows


def metrics(split: str = "test") -> dict[str, Any]:
    """``metrics.json`` of a run on CIFAR-10."""
    timing = {"batch": 1, "threads": 1, "runtime": "ONNX Runtime 1.31.0"}
    return {
        "name": "cifar_resnet20",
        "original": {
            "accuracy": 0.8866,
            "accuracy_interval": [0.8775, 0.8951],
            "parameters": 4_327_754,
            "sparsity": 0.0,
            "macs": 649_000_000,
            "file_bytes": 17_330_112,
            "latency_ms": {"median": 6.231, "spread": 0.118, **timing},
        },
        "compressed": {
            "accuracy": 0.8824,
            "accuracy_interval": [0.8731, 0.8910],
            "parameters": 1_398_214,
            "sparsity": 0.0021,
            "macs": 211_300_000,
            "file_bytes": 1_730_512,
            "latency_ms": {"median": 1.204, "spread": 0.031, **timing},
            "kl": 0.0461,
        },
        "comparison": {
            "difference": -0.0042,
            "difference_interval": [-0.0097, 0.0013],
            "bootstrap_interval": [-0.0096, 0.0014],
            "p_value": 0.148,
            "discordant": [112, 91],
            "samples": 5000,
            "split": split,
        },
        "budget": [
            {
                "quantity": "latency",
                "asked": "25%",
                "limit": 1.2e-3,
                "reached": 1.1e-3,
                "fraction": 0.229,
                "kept": True,
            },
            {"quantity": "size", "asked": "1MB", "limit": 1e6, "reached": 1.5e6, "fraction": 0.1, "kept": False},
        ],
        "predicted": {"latency_ms": 1.173, "size": 1_712_000, "macs": 211_300_000, "kl": 0.0523},
        "factors": {
            "device": "host",
            "layers": [
                {
                    "layer": "layer1.1.conv2",
                    "method": "svd",
                    "rank": [32],
                    "bits": 8,
                    "factor_ms": 0.021,
                    "dense_ms": 0.034,
                    "ok": True,
                }
            ],
        },
        "control": {"accuracy": 0.8878, "accuracy_interval": [0.8787, 0.8962], "difference": -0.0054},
        "plan": {"layer1.0.conv1.width": "48", "layer2.2.depth": "drop", "layer3.0.conv2.rank": "svd 64"},
        "seed": 0,
        "versions": {"coldpress": "0.1.0", "torch": "2.15.0", "onnxruntime": "1.31.0", "python": "3.11.9"},
        "command": "coldpress compress --model cifar_resnet20 --weights resnet20.safetensors --data cifar10-jpeg "
        "--data-dir data --budget latency=20% --epochs 10 --seed 0 --out runs/resnet20",
        "device": {"processor": "x86-64 with AVX-512 and VNNI", "cores": 2, "memory": "8 GB", "fingerprint": "5be2c1"},
        "solver": {"name": "auto: exact", "energy": 0.0523, "lower_bound": 0.0519, "gap": 0.0076, "seconds": 4.31},
    }


def details(seed: int = 0, classes: list[str] | None = None) -> dict[str, Any]:
    """``details.json`` of the same run."""
    rng = np.random.default_rng(seed)
    classes = classes or CLASSES
    shares = np.array([0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0])
    kl = 0.9 * np.exp(-9 * shares)
    predicted = 10 ** rng.uniform(-2.5, 0.2, 40)
    seconds = np.sort(rng.uniform(0, 4.3, 25))
    found = 0.0523 + 0.06 * np.exp(-1.6 * seconds)
    return {
        "layers": layers(rng),
        "pareto": [
            {
                "budget": f"latency={100 * share:.0f}%",
                "latency_ms": 6.1 * share,
                "bytes": int(1.7e7 * share),
                "macs": int(6.5e8 * share),
                "predicted_kl": float(loss),
                "accuracy": float(0.8866 - 0.12 * loss) if i % 2 == 0 else None,
                "chosen": bool(i == 2),
            }
            for i, (share, loss) in enumerate(zip(shares, kl))
        ],
        "correlation": {
            "predicted": predicted.tolist(),
            "measured": (predicted**0.93 * np.exp(rng.normal(0, 0.12, 40))).tolist(),
            "predicted_refit": predicted[::5].tolist(),
            "measured_refit": (0.5 * predicted[::5] ** 0.95 * np.exp(rng.normal(0, 0.16, 8))).tolist(),
            "spearman": 0.991,
            "spearman_separable": 0.986,
            "spearman_refit": 0.983,
        },
        "latency_samples": {
            "original": (6.15 + rng.gamma(2, 0.05, 400)).tolist(),
            "compressed": (1.18 + rng.gamma(2, 0.014, 400)).tolist(),
        },
        "confusion": {
            "classes": classes,
            "original": confusion(rng, len(classes), 0.887),
            "compressed": confusion(rng, len(classes), 0.882),
        },
        "refused": {
            **{
                f"layer{s}.{b}.conv1.bits: int8": "measured 1.31× slower than fp32 here"
                for s in (1, 2)
                for b in (0, 1, 2)
            },
            "layer1.0.conv1.rank: svd 56": "saves no weights at this width",
            "conv1.rank: tucker 3, 16": "predicted slower than the dense layer",
        },
        "trace": [
            [float(t), float(e), float(0.0519 - 0.03 * np.exp(-1.1 * t)) if t > 0.4 else None]
            for t, e in zip(seconds, found)
        ],
        "history": [
            {
                "epoch": epoch,
                "train_loss": None if epoch == 0 else float(0.7 * np.exp(-0.3 * epoch) + 0.11),
                "validation_accuracy": float(0.884 - 0.07 * np.exp(-0.7 * epoch)),
            }
            for epoch in range(11)
        ],
        "input": {"names": ["input"], "shapes": [[None, 3, 32, 32]], "dtypes": ["float32"]},
    }


def write_artifact(folder: Path, metrics: dict[str, Any], details: dict[str, Any] | None) -> Path:
    """Write the JSON files of an artifact."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if details is not None:
        (folder / "details.json").write_text(json.dumps(details))
        plan = {"coldpress_plan": 1, "choices": metrics.get("plan", {}), "kept": {}, "structure": {}}
        (folder / "plan.json").write_text(json.dumps(plan))
        log = [
            {"step": "sensitivities", "seconds": 61.2},
            {"step": "solve", "seconds": 4.3},
            {"note": "no seconds here"},
        ]
        (folder / "log.jsonl").write_text("\n".join(map(json.dumps, log)) + '\n{"step": "cut sho')
    return folder
