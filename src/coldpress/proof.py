"""Builds the artifact: exports, evaluates and times both sides on the runtime, and writes every figure down."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coldpress import __version__, scores
from coldpress.artifact import save_model
from coldpress.cost.model_error import host_error
from coldpress.cost.operators import operators_of
from coldpress.cost.profiles import HOST, ModelledTable, profile
from coldpress.deploy import CALIBRATION_IMAGES, evaluate_file, export_both, int8_layers, served, sparsity, time_files
from coldpress.errors import ColdpressError
from coldpress.evaluate import Evaluation, compare
from coldpress.factor_check import check_factors
from coldpress.generation import FILE as WITH_PAST
from coldpress.generation import export_with_past
from coldpress.logits import FirstOutput
from coldpress.plan import Plan, Space
from coldpress.pretrained import save_pretrained
from coldpress.recipe import Recipe
from coldpress.runtime.clock import Timing
from coldpress.runtime.devices import device
from coldpress.runtime.limits import run_within
from coldpress.runtime.onnx import default_names, export
from coldpress.space.layers import count_macs
from coldpress.steps import plain
from coldpress.task import Split, Task

SIDES = ("original", "compressed")


def build(
    folder: Path,
    task: Task,
    space: Space,
    student: nn.Module,
    plan: Plan,
    recipe: Recipe,
    facts: dict[str, Any],
    details: dict[str, Any],
    command: str | None,
) -> dict[str, Any]:
    """Write all files of an artifact but the report into an empty folder, and return its metrics.

    Args:
        folder: where to build.
        task: the original and the data that results are reported on (test, else validation).
        space, student, plan: the compressed network and how it came about.
        recipe: what was asked for.
        facts: further entries of metrics.json (predicted, solver), and ``kl``: of the float network, in nats, on
            calibration data that no weight was re-fitted on.
        details: entries of details.json that are known already.
        command: what reproduces the run.
    """
    (folder / "plan.json").write_text(plan.to_json())
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    save_model(student, folder, task.example_inputs)
    if task.tokenizer is not None:
        task.tokenizer.save_pretrained(folder / "tokenizer")
    save_pretrained(student, folder / "pretrained", task.example_inputs, task.tokenizer)
    original = folder / "original.onnx"
    export(task.model, task.example_inputs, original)
    inputs, _ = task.calibration(CALIBRATION_IMAGES)
    names = int8_layers(space, plan, student)
    export_both(
        student,
        task.example_inputs,
        names,
        inputs,
        folder / "model.fp32.onnx",
        folder / "model.onnx",
    )
    if task.per_token:
        export_with_past(student, task.example_inputs, folder / WITH_PAST)
    files = {"original": original, "compressed": folder / "model.onnx"}
    metrics, found = measured(task, student, files, recipe)
    details |= found
    metrics["compressed"]["kl"] = facts.pop("kl")
    predicted, fraction = facts["predicted"], facts["predicted"].get("latency_fraction")
    if recipe.device != HOST:
        metrics["modelled"] = _modelled(recipe, files, task)
        fraction = None  # of another machine
    median = metrics["original"]["latency_ms"]["median"]
    predicted["latency_ms"] = None if fraction is None else fraction * median
    if (memory := recipe.memory_bytes()) is not None:
        arrays = served(task.example_inputs, recipe.batch)
        ran = run_within(files["compressed"], arrays, memory, recipe.threads)
        metrics["memory"] = {"limit": memory, "peak": ran.peak, "data": ran.data, "latency_ms": ran.median}
    if factors := check_factors(student, task.example_inputs, names, recipe):
        metrics["factors"] = factors
    metrics |= facts
    metrics |= {
        "plan": dict(plan.choices),
        "int8_layers": list(names),
        "dynamic_layers": [name for name, form in names.items() if form == "dynamic"],
        **circumstances(task, recipe, command or "coldpress.compress(...) with recipe.yaml"),
    }
    metrics["budget"] = _kept(recipe, metrics)
    original.unlink()
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    (folder / "details.json").write_text(json.dumps(details))
    return metrics


def measured(
    task: Task,
    student: nn.Module,
    files: Mapping[str, Path],
    recipe: Recipe,
    judged: Mapping[str, Evaluation] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both sides evaluated and timed on the runtime: entries of metrics.json and of details.json.

    Args:
        task: the original and the data that results are reported on (test, else validation).
        student: the compressed network.
        files: the ONNX file of either of `SIDES`.
        recipe: threads, batch and seed of the timing.
        judged: evaluations of both files, where they are known already.
    """
    times = time_files(files, task.example_inputs, threads=recipe.threads, batch=recipe.batch, seed=recipe.seed)
    split: Split | None = task.report_split if task.test is not None or task.validation is not None else None
    if judged is None and split:
        judged = {side: evaluate_file(task, path, split, batch=recipe.batch) for side, path in files.items()}
    judged = judged or {}
    metrics: dict[str, Any] = {
        side: _side(model, files[side], times[side], judged.get(side), task)
        for side, model in (("original", task.model), ("compressed", student))
    }
    details: dict[str, Any] = {}
    if judged:
        comparison = compare(judged["original"], judged["compressed"])
        metrics["comparison"] = {**asdict(comparison), "split": split}
        if task.metric_name != "accuracy":
            own = {side: found.score(task.metric) for side, found in judged.items()}
            metrics["metric"] = {"name": task.metric_name, "split": split, **own}
        if not task.per_token:
            details["confusion"] = {
                "classes": list(task.classes) or [str(i) for i in range(task.num_classes)],
                **{side: found.confusion(task.num_classes).tolist() for side, found in judged.items()},
            }
            details["scores"] = {side: scores.details(found) for side, found in judged.items()}
    details["latency_samples"] = {side: list(times[side].samples) for side in files}
    details["input"] = {
        "names": default_names(task.model, len(task.example_inputs)),
        "shapes": plain(task.example_inputs),
        "dtypes": [str(tensor.dtype).removeprefix("torch.") for tensor in task.example_inputs],
    }
    return metrics, details


def circumstances(task: Task, recipe: Recipe, command: str) -> dict[str, Any]:
    """What was compressed, how, and where: entries of metrics.json."""
    return {
        "name": task.name,
        "first_output": isinstance(task.model, FirstOutput),
        "seed": recipe.seed,
        "versions": versions(),
        "device": device(recipe.threads).summary(),
        "command": command,
    }


def _modelled(recipe: Recipe, files: Mapping[str, Path], task: Task) -> dict[str, Any]:
    """What the profile of another machine says of both files, and how far such a model is off on this one."""
    machine = profile(recipe.device)
    table = ModelledTable(machine, threads=recipe.threads, batch=recipe.batch)
    arrays = served(task.example_inputs, recipe.batch)
    return {
        "device": recipe.device,
        "title": machine.title,
        "source": machine.source,
        **{f"{side}_ms": 1e3 * table.network(operators_of(path, arrays)) for side, path in files.items()},
        "host_error": asdict(host_error(recipe.threads, recipe.batch)),
    }


def _kept(recipe: Recipe, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Every limit of the budget against what was measured; latency in seconds."""

    def costs(side: dict[str, Any]) -> dict[str, float]:
        return {"latency": side["latency_ms"]["median"] / 1e3, "size": side["file_bytes"], "macs": side["macs"]}

    before, after = costs(metrics["original"]), costs(metrics["compressed"])
    if "modelled" in metrics:
        before["latency"], after["latency"] = (metrics["modelled"][f"{side}_ms"] / 1e3 for side in SIDES)
    limits, given = recipe.limits().resolve(before), recipe.limits().given()
    return [
        {
            "quantity": quantity,
            "asked": str(given[quantity]),
            "limit": limit,
            "reached": after[quantity],
            "fraction": after[quantity] / before[quantity],
            "kept": after[quantity] <= limit,
        }
        for quantity, limit in limits.items()
    ]


def _side(model: nn.Module, path: Path, timing: Timing, judged: Evaluation | None, task: Task) -> dict[str, Any]:
    likely = {"perplexity": judged.perplexity} if judged and task.metric_name == "log_likelihood" else {}
    return {
        "accuracy": judged.accuracy if judged else None,
        "accuracy_interval": list(judged.accuracy_interval) if judged else None,
        **likely,
        "scores": scores.summary(judged) if judged and not task.per_token else None,
        "parameters": sum(p.numel() for p in model.parameters()),
        "sparsity": sparsity(model),
        "macs": count_macs(model, task.example_inputs),
        "file_bytes": path.stat().st_size,
        "latency_ms": timing.summary(),
    }


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    return {
        "coldpress": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": importlib.metadata.version("onnx"),
        "onnxruntime": importlib.metadata.version("onnxruntime"),
        "numpy": importlib.metadata.version("numpy"),
    }


def reproduce_command() -> str | None:
    """The command line of this process, where it is coldpress' own."""
    if Path(sys.argv[0]).name not in ("coldpress", "__main__.py"):
        return None
    return shlex.join(["coldpress", *sys.argv[1:]])


def copy_log(work: Path, folder: Path) -> None:
    """Take the run's log into the artifact."""
    try:
        shutil.copyfile(work, folder / "log.jsonl")
    except OSError as error:
        raise ColdpressError(f"the log {work} cannot be copied: {error}") from error
