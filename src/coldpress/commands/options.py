"""The options of the commands, each said once: name, type and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldpress.layer_shape import MORE_METHODS
from coldpress.recipe import ENERGIES, KINDS, Recipe

SOLVER_NAMES = "auto, exact, anneal, milp, relaxation, greedy, random, separable, genetic, reinforce, tpe"
SAMPLER_NAMES = (
    "tabu, low-rank, bifurcation, qaoa, exhaustive, sa, path-integral, dwave-tabu, steepest-descent, "
    "tree-decomposition; with the extra dwave: dwave-qpu, dwave-hybrid, dwave-hybrid-cqm (:NAME), mock-pegasus, "
    "mock-zephyr (:SIZE)"
)


def names(text: str | None) -> tuple[str, ...] | None:
    """The parts of a text with commas."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _says(field: str, words: str) -> str:
    """Help with the recipe's default."""
    return f"{words} [dim]\\[default: {getattr(Recipe, field)}][/dim]"


Model = Annotated[
    str | None,
    typer.Option(
        help="cifar_resnet20/32/44/56, cifar_resnet18, fashion_cnn, torchvision:NAME, timm:NAME, hf:FOLDER, "
        "package.module:factory or file.py:factory"
    ),
]
Weights = Annotated[
    str | None, typer.Option(help=".th, .pt, .pth or .safetensors file; 'pretrained' or 'random' where meant")
]
Data = Annotated[
    str | None,
    typer.Option(
        help="fashion-mini (bundled), fashion-mnist, cifar10, cifar10-jpeg, folder:PATH, texts: "
        "a file or a folder, tsv:train=FILE,text=COLUMN,label=COLUMN, hf:NAME"
    ),
]
DataDir = Annotated[str | None, typer.Option(help="where the data's files are; else the environment's COLDPRESS_DATA")]
Classes = Annotated[int | None, typer.Option(help="outputs of the model; the data's classes by default")]
Ignore = Annotated[list[str] | None, typer.Option(help="a module that stays as it is; may be repeated")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace --out where it exists")]
Measurements = Annotated[
    Path | None,
    typer.Option(help="folder for measured times and sensitivities: runs with other budgets or recoveries take them"),
]
Seed = Annotated[int, typer.Option(help="of everything random")]

Budget = Annotated[
    list[str] | None,
    typer.Option(help="latency=25%, latency=3ms, size=2MB, macs=47% ...; percentages of the original; repeatable"),
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", help="plan.json of a plan to carry out; nothing is solved then")
]
Drop = Annotated[
    float | None, typer.Option(help="points that may be lost on validation data; alone, the least --objective")
]
Objective = Annotated[str | None, typer.Option(help=_says("objective", "latency, size or macs"))]
Preset = Annotated[
    str | None,
    typer.Option(
        help=_says("preset", "curvature (our way), qianets (its steps, corrected) or qianets-legacy (as published)")
    ),
]
Sparsity = Annotated[
    float | None,
    typer.Option(help="of the presets qianets (of channels) and qianets-legacy (of weights): what goes, 0 to 1"),
]
Rank = Annotated[
    str | None,
    typer.Option(
        help="of these presets: rank of the factors, N; of qianets also by layer, energy:0.9 (of squared singular "
        "values) or evbmf; without it qianets has none"
    ),
]
Entanglement = Annotated[
    float | None,
    typer.Option(help=_says("entanglement", "of these presets: probability that what goes takes a neighbour along")),
]
Stages = Annotated[int | None, typer.Option(help=_says("stages", "of the preset qianets: steps to the sparsity"))]
ECAKernel = Annotated[
    int | None,
    typer.Option(help="of the preset qianets: kernel of the channel attention, odd; 0: none; else by the paper's rule"),
]
RetentionUnits = Annotated[
    str | None,
    typer.Option(
        help=_says(
            "retention_units",
            "of the preset qianets: channels, or single weights, which become zeros: nothing is smaller",
        )
    ),
]
Solver = Annotated[
    str | None,
    typer.Option(help=_says("solver", f"{SOLVER_NAMES}, or a sampler, see coldpress solve --help")),
]
Energy = Annotated[str | None, typer.Option(help=_says("energy", " or ".join(ENERGIES)))]
Units = Annotated[
    str | None,
    typer.Option(help=f"what is decided, comma-separated: all of {','.join(KINDS)}; also {', '.join(MORE_METHODS)}"),
]
Int8 = Annotated[
    str | None,
    typer.Option(
        help=_says(
            "int8", "form for linear layers: static, dynamic, both, or auto, by what measures faster (search: static)"
        )
    ),
]
Epochs = Annotated[int | None, typer.Option(help=_says("epochs", "of distillation; 0 trains nothing"))]
Rate = Annotated[float | None, typer.Option(help=_says("lr", "highest learning rate"))]
Optimizer = Annotated[str | None, typer.Option(help=_says("optimizer", "sgd, adamw, adam or muon"))]
Schedule = Annotated[
    str | None,
    typer.Option(help=_says("schedule", "of the learning rate: one_cycle (it rises, then falls) or constant")),
]
WeightDecay = Annotated[float | None, typer.Option(help=_says("weight_decay", "of weights, not of biases and norms"))]
StepSize = Annotated[int | None, typer.Option(help=_says("batch_size", "samples a training step"))]
Temperature = Annotated[float | None, typer.Option(help=_says("temperature", "of the distillation"))]
Mixup = Annotated[float | None, typer.Option(help=_says("mixup", "images mixed in pairs, by Beta(mixup, mixup)"))]
HintWeight = Annotated[
    float | None, typer.Option(help=_says("hint_weight", "of the original's activations in residual streams"))
]
AttentionWeight = Annotated[
    float | None, typer.Option(help=_says("attention_weight", "of where the original's transformer blocks attend"))
]
DistilWeight = Annotated[float | None, typer.Option(help=_says("distil_weight", "of the original against the labels"))]
Calibration = Annotated[int | None, typer.Option(help=_says("calibration", "samples for the energy"))]
RefitImages = Annotated[int | None, typer.Option(help=_says("refit_images", "samples for the re-fit"))]
RandomPlans = Annotated[int | None, typer.Option(help=_says("random_plans", "plans that test the energy"))]
RefitPlans = Annotated[int | None, typer.Option(help=_says("refit_plans", "of them also measured re-fitted"))]
Rounds = Annotated[int | None, typer.Option(help=_says("rounds", "re-linearisations around the plan"))]
TimeLimit = Annotated[float | None, typer.Option(help=_says("time_limit", "seconds for the solver"))]
Threads = Annotated[int | None, typer.Option(help=_says("threads", "at which latency is measured"))]
Batch = Annotated[int | None, typer.Option(help=_says("batch", "samples a run at which latency is measured"))]
Tokens = Annotated[int | None, typer.Option(help=_says("tokens", "length of texts at which latency is measured"))]
DeviceName = Annotated[
    str | None,
    typer.Option("--device", help=_says("device", "host (measured) or a profile, see coldpress devices")),
]
Memory = Annotated[str | None, typer.Option(help="512MB say: the result must run in a process with so much data")]
MeasureSeconds = Annotated[float | None, typer.Option(help=_says("measure_seconds", "how long layers may be measured"))]
GivenSeed = Annotated[int | None, typer.Option(help=_says("seed", "of everything random"))]
RecipeFile = Annotated[Path | None, typer.Option(help="YAML file of these settings; flags override it")]
Out = Annotated[Path | None, typer.Option(help="folder of the result")]
Vartype = Annotated[str | None, typer.Option(help="BINARY or SPIN, of COO text that does not say it")]
