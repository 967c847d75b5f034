"""round_to_artifact(): a network's weights in few bits, and the folder that proves what they are worth.

It is the same folder as of `coldpress.compress`, but that the weights lie in ``packed.safetensors`` at their few bits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from coldpress import proof
from coldpress.artifact import PACKED, check_output, put_in_place
from coldpress.errors import TaskError
from coldpress.evidence import Progress
from coldpress.factor_check import check_factors
from coldpress.facts import correlated
from coldpress.few_bits.choice import Decided, decide_forms, reasons_for_floats
from coldpress.few_bits.factors import factor_network
from coldpress.few_bits.network import RoundedNetwork, check_asked, packed_bytes, round_network
from coldpress.keys import run_key
from coldpress.layer_shape import LayerShape
from coldpress.memory import peak_resident
from coldpress.packed import pack_weights
from coldpress.plan import Plan
from coldpress.pricing import shape_facts
from coldpress.recipe import FEW_BITS, PRESET_ONLY, Recipe
from coldpress.recovery.parallel import check_alone
from coldpress.report import render
from coldpress.runtime.onnx import export
from coldpress.runtime.weight_only import store_levels
from coldpress.solvers import check_solver
from coldpress.space.layers import layer_shapes
from coldpress.surgery.factor_layers import FactorPair
from coldpress.task import Task
from coldpress.workspace import Workspace

DECIDED = "forms"
"""The step that is kept: which form each layer has."""


@dataclass(frozen=True)
class RoundedResult:
    """What round_to_artifact() gives back.

    Attributes:
        network: the rounded network, and what each layer was rounded to.
        metrics: the contents of metrics.json.
        folder: the artifact.
    """

    network: RoundedNetwork
    metrics: dict[str, Any]
    folder: Path


def round_to_artifact(
    task: Task,
    out: str | Path,
    bits: int | None = None,
    average_bits: float | None = None,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
    command: str | None = None,
    **recipe: Any,
) -> RoundedResult:
    """Round a network's weights as `coldpress.round_network` does, hold it against the original, and keep both proofs.

    The folder holds ``packed.safetensors`` (levels at their bits, with a checksum), ``model.fp32.onnx``, ``model.onnx``
    (integers of 4 or 8 bits: what a runtime can load), ``plan.json`` (each layer's form, as choices), ``metrics.json``,
    ``details.json``, ``recipe.yaml``, ``report.html`` and ``log.jsonl``. A run that was stopped once bits were decided
    goes on from there when it is called again with the same arguments.

    Args:
        task: model and data; results are reported on its test data, else on validation.
        out: the folder.
        bits: of every layer; or
        average_bits: to be shared out among the layers.
        overwrite: replace ``out`` where it exists.
        executor: shares out layers, forms and rows, see `coldpress.round_network`; the files do not depend on it.
        progress: called with (step, done, in all).
        command: what reproduces the run, for the report.
        **recipe: ``factors`` and ``rank`` in place of bits, to make two factors of layers as `coldpress.factor_network`
            does; ``group_size``, ``calibration``, ``refit_images``, ``solver``, ``seed``, and ``threads`` and ``batch``
            of the timing, as in `coldpress.Recipe`.

    Raises:
        TaskError, SpaceError, BudgetError, SurgeryError: see `coldpress.round_network`.
        ExportError, ArtifactError: the network cannot be exported, or the folder not be written.

    Example:
        >>> result = round_to_artifact(task, "few", average_bits=2.5)  # doctest: +SKIP
    """
    given = rounding_recipe(task, {"bits": bits, "average_bits": average_bits, **recipe})
    folder = Path(out)
    check_output(folder, overwrite)
    work = Workspace(folder, run_key(task, given))
    try:
        decided = None if given.average_bits is None else _decided(task, given, work, executor, progress)
        with work.step("round"):
            network = _network(task, given, decided, executor, progress)
        used = {"seconds": work.seconds(), "peak_bytes": peak_resident()}
        built = work.path("artifact")
        shutil.rmtree(built, ignore_errors=True)
        built.mkdir()
        with work.step("prove"):
            metrics = build(built, task, network, given, command, used)
        proof.copy_log(work.path("log.jsonl"), built)
        render(built)
        put_in_place(built, folder)
    except BaseException:
        if not work.path(f"{DECIDED}.json").exists():
            work.close()  # there is nothing to take up
        raise
    work.close()
    return RoundedResult(network, metrics, folder)


def _network(
    task: Task, recipe: Recipe, decided: Decided | None, executor: Executor | None, progress: Progress | None
) -> RoundedNetwork:
    """The network in few bits, or with factors of few levels."""
    asked: dict[str, Any] = {name: getattr(recipe, name) for name in ("calibration", "refit_images", "seed")}
    if (forms := _factors(recipe)) is not None:
        assert recipe.rank is not None
        return factor_network(task, recipe.rank, *forms, progress=progress, **asked)
    return round_network(
        task, recipe.bits, recipe.average_bits, group_size=recipe.group_size, solver=recipe.solver, executor=executor,
        progress=progress, decided=decided, **asked,
    )  # fmt: skip


def _factors(recipe: Recipe) -> tuple[str, str] | None:
    """The forms of the left and the right factor, where there are to be any."""
    if recipe.factors is None:
        return None
    left, right = (form.strip() for form in recipe.factors.split(","))
    return left, right


def _decided(
    task: Task, recipe: Recipe, work: Workspace, executor: Executor | None, progress: Progress | None
) -> Decided:
    """Every layer's form, which a stopped run keeps."""
    assert recipe.average_bits is not None
    average = recipe.average_bits

    def decide() -> dict[str, Any]:
        return decide_forms(
            task,
            average,
            recipe.calibration,
            recipe.refit_images,
            group_size=recipe.group_size,
            solver=recipe.solver,
            seed=recipe.seed,
            executor=executor,
            progress=progress,
        ).to_data()

    return Decided.from_data(work.json(DECIDED, decide))


def rounding_recipe(task: Task, settings: Mapping[str, Any]) -> Recipe:
    """The settings as a recipe. Raises TaskError where they do not fit together, or are not of rounding."""
    given = Recipe().changed({**FEW_BITS, "ignored_layers": tuple(task.ignored_layers), **settings})
    if set(given.ignored_layers) != set(task.ignored_layers):
        raise TaskError("ignored_layers belong to the task: give Task(..., ignored_layers=...)")
    check_rounding(given)
    check_alone("round")
    check_solver(given.solver)
    return given


def check_rounding(recipe: Recipe) -> None:
    """Raise TaskError unless a recipe asks for bits, and for nothing that only compress() does."""
    if (forms := _factors(recipe)) is None:
        check_asked(recipe.bits, recipe.average_bits)
    elif recipe.rank is None or recipe.given(("bits", "average_bits", "group_size", "solver")):
        raise TaskError("factors take a rank, and no bits, average_bits, group_size or solver")
    else:
        FactorPair(1, *forms)
    if recipe.budget or recipe.choices or recipe.max_accuracy_drop is not None:
        raise TaskError("rounding takes bits or average_bits; a budget, a plan and an accuracy limit are of compress")
    others = [name for name in PRESET_ONLY if name != "rank" or forms is None]
    if recipe.preset != "curvature" or recipe.given(others):
        raise TaskError(f"a preset, and {', '.join(others)}, are of compress: rounding takes bits or average_bits")


def build(
    folder: Path, task: Task, network: RoundedNetwork, recipe: Recipe, command: str | None, used: Mapping[str, Any]
) -> dict[str, Any]:
    """Write all files but the report into an empty folder, and return the metrics.

    Args:
        folder: where to build.
        task: the original, and the data that results are reported on.
        network: the rounded network.
        recipe: what was asked for.
        command: what reproduces the run.
        used: ``seconds`` that the steps before took, and ``peak_bytes`` of resident memory.
    """
    student, structure = network.model, network.structure
    choices = {name: form.label for name, form in network.forms.items()}
    (folder / "plan.json").write_text(Plan(choices, {}, structure).to_json())
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    if task.tokenizer is not None:
        task.tokenizer.save_pretrained(folder / "tokenizer")
    size = pack_weights(student, network.layers, folder / PACKED, structure)
    original = export(task.model, task.example_inputs, folder / "original.onnx")
    floats = export(student, task.example_inputs, folder / "model.fp32.onnx")
    levels = {name: layer.levels.numpy() for name, layer in network.layers.items()}
    sizes = {name: layer.group_size for name, layer in network.layers.items()}
    stored = store_levels(floats, folder / "model.onnx", levels, sizes)
    metrics, details = proof.measured(task, student, {"original": original, "compressed": stored}, recipe)
    metrics["original"] |= {"packed_bytes": _bytes(task.model), "average_bits": _bits(task.model, network)}
    metrics["compressed"] |= {"packed_bytes": size.total, "average_bits": network.average_bits, "kl": network.kl}
    metrics |= {
        "packed": {**asdict(size), "total": size.total},
        "layers": _stored(network),
        "plan": choices,
        **used,
        **proof.circumstances(task, recipe, command or "coldpress.round_to_artifact(...) with recipe.yaml"),
    }
    if factors := check_factors(student, task.example_inputs, {}, recipe):
        metrics["factors"] = factors
    shapes = layer_shapes(task.model, task.example_inputs)
    reasons = reasons_for_floats(task)
    details["refused"] = {
        name: f"left in floats: {reasons.get(name, 'by the choice of bits')}"
        for name in shapes
        if name not in network.forms
    }
    details["layers"] = [
        {
            "name": name,
            "kind": shape.kind,
            "before": shape_facts(shape),
            "after": _after(network, name, shape),
        }
        for name, shape in shapes.items()
    ]
    if (decided := network.decided) is not None:
        metrics["solver"] = {**decided.solver, "budget": f"{recipe.average_bits:g} bits a weight"}
        details["trace"] = list(decided.trace)
        details["correlation"] = correlated(decided.correlation)
    original.unlink()
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    (folder / "details.json").write_text(json.dumps(details))
    return metrics


def _bytes(model: nn.Module) -> int:
    """Bytes of a network's tensors as they are."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


def _bits(model: nn.Module, network: RoundedNetwork) -> float:
    """Bits a weight of the original's layers that were rounded."""
    weights = [model.get_submodule(name).get_parameter("weight") for name in network.forms]
    return 8 * sum(w.numel() * w.element_size() for w in weights) / max(sum(w.numel() for w in weights), 1)


def _stored(network: RoundedNetwork) -> dict[str, dict[str, Any]]:
    """Each changed layer's form, its bytes, and what the search gained on its start."""
    found = {}
    for name, form in network.forms.items():
        told: dict[str, Any]
        if isinstance(form, FactorPair):
            parts = [network.layers[key] for key in (f"{name}.0", f"{name}.1") if key in network.layers]
            told = {"bytes": _pair_bytes(network, name, form)}
        else:
            parts = [network.layers[name]]
            told = {"bytes": packed_bytes(parts[0], form), "zeros": float((parts[0].levels == 0).double().mean())}
        found[name] = {**asdict(form), **told, "start_error": parts[0].start_error, "error": parts[0].error}
    return found


def _pair_bytes(network: RoundedNetwork, name: str, pair: FactorPair) -> int:
    """Bytes of two factors, packed, at most."""
    right, left = (network.model.get_submodule(f"{name}.{i}").get_parameter("weight") for i in (0, 1))
    return pair.bytes(len(left), right[0].numel())


def _after(network: RoundedNetwork, name: str, shape: LayerShape) -> dict[str, Any]:
    """What the report says of a layer as it is now; a bias in floats comes on top of its levels."""
    form = network.forms.get(name)
    if form is None:
        return shape_facts(shape)
    if isinstance(form, FactorPair):
        facts = shape_facts(replace(shape, method="svd", rank=(form.rank,)))
        return facts | {"form": form.label, "bytes": _pair_bytes(network, name, form) + 4 * shape.out_channels}
    layer = network.layers[name]
    return shape_facts(shape) | {"form": form.label, "bytes": packed_bytes(layer, form) + 4 * len(layer.levels)}
