"""Everything that a run was asked for, as plain data: the flags of the command line, a YAML file, the same thing."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from coldpress.budget import Budget
from coldpress.errors import BudgetError, ColdpressError, TaskError
from coldpress.layer_shape import MORE_METHODS

Objective = Literal["latency", "size", "macs"]
PRESETS = ("curvature", "qianets", "qianets-legacy")
ENERGIES = ("curvature", "separable", "fisher")
KINDS = ("width", "rank", "bits", "depth", "vocabulary")
Int8 = Literal["auto", "static", "dynamic", "both"]
ROUND_ONLY = ("bits", "average_bits", "group_size", "factors")
"""Settings that are of `coldpress round` alone."""
PRESET_ONLY = ("sparsity", "rank", "entanglement", "stages", "eca_kernel", "retention_units")
"""Settings that are of QIANets' steps alone."""
LATER = ("factors", "schedule", "retention_units")
"""Settings that older runs do not know: keys do not tell of them where they are at their defaults."""
MEASURED = (
    *("int8", "calibration", "refit_images", "random_plans", "threads", "batch", "tokens", "device"),
    *("measure_seconds", "seed", "ignored_layers"),
)
"""Settings that measured times and sensitivities depend on."""
FEW_BITS = {"calibration": 256, "refit_images": 1024}
"""Settings whose defaults are others there."""


@dataclass(frozen=True)
class Recipe:
    """What to compress, how far and how.

    Attributes:
        model, weights, data, data_dir, num_classes: names for the command line; None where a Task was built in Python.
        budget: limits as ``quantity=value`` texts ("latency=25%").
        max_accuracy_drop: points of accuracy that may be lost on validation data; None is no limit.
        objective: what an accuracy limit alone is spent on.
        preset: "curvature", our way; or QIANets' steps, corrected or as published (`coldpress.papers.presets`).
        sparsity, rank: of these steps: the share of channels (as published: of weights) that goes, and of the factors:
            a number, or a rule for each layer, "energy:0.9" (of squared singular values kept) or "evbmf".
        entanglement, stages: of these steps too: how probably what goes takes its neighbours along, and in how many
            steps the sparsity is reached.
        retention_units: what goes by them: whole channels, or single weights, which are zeros then and save nothing.
        eca_kernel: of the channel attention behind blocks: odd; 0: there is none; None: by the paper's rule.
        solver, energy, units: how the plan is found; "fisher" chooses channels, heads and neurons one by one (of units
            it takes "width" alone), the others widths, ranks, bits and blocks together.
        int8: the form of int8 that linear layers are offered: static, dynamic, both; or, for those between floats, the
            one that measures faster (auto).
        choices: ``unit=label`` texts: a plan that was found elsewhere; it is carried out and nothing is solved.
        epochs, optimizer, lr, schedule, weight_decay, batch_size, temperature, distil_weight, mixup, hint_weight,
            attention_weight: recovery (0 epochs: none).
        calibration: images for the energy; as many others judge it.
        refit_images: images that weights are re-fitted on.
        random_plans: plans whose measured loss the energy is held against, and shrunk by.
        refit_plans: how many of them are also measured after the sequential re-fit (it costs a surgery each).
        rounds: re-linearisations around the incumbent.
        time_limit: seconds for the solver.
        threads, batch: at which latency is measured.
        tokens: length of the texts at which it is; None: as long as 95 % of the texts that there are.
        device: "host", or the name of a profile (`coldpress.cost.profiles`) that latency is modelled by.
        memory: bytes that the deployed file must do with in a process of its own ("512MB"); None is no limit.
        measure_seconds: how long layers may be measured; what is left then is interpolated.
        seed: of everything random.
        ignored_layers: modules that stay as they are.
        bits, average_bits, group_size: of `coldpress round`: bits of every weight, or on average; columns that share
            a scale (None: a whole row).
        factors: of `coldpress round` too: forms of two factors, "LEFT,RIGHT", that layers become, of ``rank``.
    """

    model: str | None = None
    weights: str | None = None
    data: str | None = None
    data_dir: str | None = None
    num_classes: int | None = None
    budget: tuple[str, ...] = ()
    max_accuracy_drop: float | None = None
    objective: Objective = "latency"
    preset: str = "curvature"
    sparsity: float | None = None
    rank: int | str | None = None
    entanglement: float = 0.1
    stages: int = 3
    eca_kernel: int | None = None
    retention_units: Literal["channels", "weights"] = "channels"
    solver: str = "auto"
    energy: str = "curvature"
    units: tuple[str, ...] = KINDS
    int8: Int8 = "auto"
    choices: tuple[str, ...] = ()
    epochs: int = 5
    optimizer: Literal["sgd", "adamw", "adam", "muon"] = "sgd"
    lr: float = 0.02
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    weight_decay: float = 5e-4
    batch_size: int = 128
    temperature: float = 2.0
    distil_weight: float = 0.9
    mixup: float = 0.0
    hint_weight: float = 0.0
    attention_weight: float = 0.0
    calibration: int = 512
    refit_images: int = 2048
    random_plans: int = 24
    refit_plans: int = 6
    rounds: int = 1
    time_limit: float = 10.0
    threads: int = 1
    batch: int = 1
    tokens: int | None = None
    device: str = "host"
    memory: str | None = None
    measure_seconds: float = 120.0
    seed: int = 0
    ignored_layers: tuple[str, ...] = ()
    bits: int | None = None
    average_bits: float | None = None
    group_size: int | None = None
    factors: str | None = None

    def __post_init__(self) -> None:
        for name in ("budget", "units", "choices", "ignored_layers"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        for entry in fields(self):
            value = getattr(self, entry.name)
            kind = {"int": int, "float": float}.get(str(entry.type).removesuffix(" | None"))
            if kind is not None and value is not None:
                object.__setattr__(self, entry.name, _number(entry.name, value, kind))
        object.__setattr__(self, "rank", None if self.rank is None else _rank(self.rank))
        for name, (fine, what) in _allowed(self).items():
            if not fine:
                raise TaskError(f"{name} is {getattr(self, name)!r}; allowed: {what}")
        Budget.parse(self.budget)
        self.memory_bytes()
        if self.device != "host":
            from coldpress.cost.profiles import profile  # it needs torch, which --help can do without

            profile(self.device)

    def memory_bytes(self) -> int | None:
        """The memory limit in bytes. Raises BudgetError when it is none."""
        if self.memory is None:
            return None
        if str(self.memory).strip().endswith("%"):
            raise TaskError(f"memory is {self.memory!r}; a share of what? Give bytes, 512MB say")
        try:
            return int(Budget.parse([f"size={self.memory}"]).resolve({"size": 1.0})["size"])
        except BudgetError as error:
            raise TaskError(f"memory is {self.memory!r}; give bytes, 512MB say") from error

    def limits(self) -> Budget:
        """The budget as an object."""
        return Budget.parse(self.budget)

    def chosen(self) -> dict[str, str]:
        """The given choices: unit name to option label."""
        pairs = (text.rpartition("=") for text in self.choices)
        return {unit: label for unit, _, label in pairs}

    def counted(self, objectives: Iterable[str] | None = None) -> set[str]:
        """The costs that plans are judged by: those of the budget, and of a search's objectives.

        Without a search it is ``objective`` that counts where there is no budget.
        """
        if objectives is None:
            objectives = () if self.budget else (self.objective,)
        return set(self.limits().given()) | set(objectives) | ({"size"} if self.memory else set())

    def kinds(self, objectives: Iterable[str] | None = None) -> tuple[str, ...]:
        """The kinds of unit that are decided: bits only where size or latency count, vocabularies where size does.

        Those of ``choices`` always are.

        Args:
            objectives: costs that a search goes by, beside the budget.

        Raises:
            TaskError: none is left.
        """
        counts = self.counted(objectives)
        needed = {"bits": {"latency", "size"}, "vocabulary": {"size"}}
        chosen = {unit.rpartition(":")[2] for unit in self.chosen()}
        found = tuple(kind for kind in self.units if kind in chosen or kind not in needed or counts & needed[kind])
        if not found:
            idle = " and ".join(f"{kind} ({' or '.join(sorted(needed[kind]))})" for kind in self.units)
            raise TaskError(
                f"nothing is left to decide: neither budget nor objective speaks of what would count for {idle}"
            )
        return found

    def wants_latency(self, objectives: Iterable[str] | None = None) -> bool:
        """Whether the plan depends on measured times; ``objectives`` as in `kinds`."""
        counts = self.counted(objectives)
        measured = {"bits", "rank", *MORE_METHODS} & set(self.kinds(objectives))
        return "latency" in counts or not self.budget or bool(measured)

    def rounds_weights(self) -> bool:
        """Whether it is a recipe of `coldpress round`."""
        return bool(self.given(ROUND_ONLY))

    def given(self, names: Sequence[str]) -> list[str]:
        """Those of some settings that are not at their defaults."""
        return [name for name in names if getattr(self, name) != getattr(Recipe, name)]

    def key(self) -> str:
        """Changes when a stopped run must not be continued under this recipe.

        How much memory there is changes limits, and a run looks after these itself (`Workspace.reach`); but single
        channels are chosen within them before anything is measured.
        """
        memory = self.memory if self.energy == "fisher" else self.memory is not None
        known = {name: value for name, value in asdict(self).items() if name not in LATER or self.given([name])}
        return _digest(known | {"memory": memory})

    def measurements_key(self) -> str:
        """Changes when the times and sensitivities that another run measured must not be taken for this one."""
        measured = {name: getattr(self, name) for name in MEASURED}
        measured |= {"kinds": self.kinds(), "latency": self.wants_latency(), "slow": self.minds_size_alone()}
        measured["given"] = bool(self.choices)
        if self.energy == "fisher":  # chooses channels within the budget before anything is measured
            measured |= {"energy": self.energy, "budget": self.budget, "memory": self.memory}
        return _digest(measured)

    def minds_size_alone(self) -> bool:
        """Whether forms that are slower are offered too: nothing but bytes is asked for."""
        return self.objective == "size" and not self.budget

    def to_yaml(self) -> str:
        """The recipe as YAML; ``Recipe.read`` reads it back."""
        data = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        command = "compress" if not self.rounds_weights() else "round"
        return f"# coldpress {command} --recipe THIS_FILE --out FOLDER\n" + yaml.safe_dump(data, sort_keys=False)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a YAML recipe. Raises TaskError when it is not one."""
        try:
            data = yaml.safe_load(Path(path).read_text())
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise TaskError(f"cannot read the recipe {path}: {error}") from error
        if not isinstance(data, Mapping):
            raise TaskError(f"{path} is not a recipe: it must be a YAML mapping of settings")
        return cls().changed(data)

    def changed(self, values: Mapping[str, Any]) -> Recipe:
        """This recipe with some values replaced. Raises TaskError for a name that it does not have."""
        known = {field.name for field in fields(self)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise TaskError(f"a recipe has no {', '.join(map(repr, unknown))}; it has: {', '.join(sorted(known))}")
        try:
            return replace(self, **dict(values))
        except ColdpressError:
            raise
        except (TypeError, ValueError) as error:
            raise TaskError(f"the recipe cannot be used: {error}") from error


def _allowed(recipe: Recipe) -> dict[str, tuple[bool, str]]:
    """Of each setting whether it is in its range, and the range in words."""
    kinds = (*KINDS, *MORE_METHODS)
    return {
        "units": (bool(recipe.units) and set(recipe.units) <= set(kinds), f"some of {', '.join(kinds)}"),
        "preset": (recipe.preset in PRESETS, ", ".join(PRESETS)),
        "sparsity": (recipe.sparsity is None or 0 <= recipe.sparsity <= 1, "from 0 to 1, the share that goes"),
        "rank": (not isinstance(recipe.rank, int) or recipe.rank >= 1, "1 or more"),
        "entanglement": (0 <= recipe.entanglement <= 1, "from 0 to 1, a probability"),
        "stages": (recipe.stages >= 1, "1 or more"),
        "retention_units": (recipe.retention_units in ("channels", "weights"), "channels or weights"),
        "eca_kernel": ((kernel := recipe.eca_kernel or 1) > 0 and kernel % 2 == 1, "odd, or 0 for none"),
        "energy": (recipe.energy in ENERGIES, " or ".join(ENERGIES)),
        "choices": (all("=" in text for text in recipe.choices), "texts such as layer1.0.conv1:width=16"),
        "int8": (recipe.int8 in get_args(Int8), ", ".join(get_args(Int8))),
        "objective": (recipe.objective in ("latency", "size", "macs"), "latency, size or macs"),
        "epochs": (recipe.epochs >= 0, "0 or more"),
        "lr": (0 < recipe.lr < math.inf, "above 0"),
        "schedule": (recipe.schedule in ("one_cycle", "constant"), "one_cycle or constant"),
        "weight_decay": (0 <= recipe.weight_decay < math.inf, "0 or more"),
        "batch_size": (recipe.batch_size >= 2, "2 or more"),
        "temperature": (recipe.temperature > 0, "above 0"),
        "distil_weight": (0 <= recipe.distil_weight <= 1, "between 0 (labels only) and 1 (the original only)"),
        "mixup": (0 <= recipe.mixup < math.inf, "0 (mix nothing) or more"),
        "hint_weight": (0 <= recipe.hint_weight < math.inf, "0 (the original's outputs only) or more"),
        "attention_weight": (0 <= recipe.attention_weight < math.inf, "0 (attention is not compared) or more"),
        "seed": (recipe.seed >= 0, "0 or more"),
        "refit_images": (recipe.refit_images >= 8, "8 or more"),
        "random_plans": (recipe.random_plans >= 3, "3 or more"),
        "refit_plans": (recipe.refit_plans >= 0, "0 or more"),
        "calibration": (recipe.calibration >= 8, "8 or more"),
        "max_accuracy_drop": (recipe.max_accuracy_drop is None or recipe.max_accuracy_drop >= 0, "0 points or more"),
        "time_limit": (recipe.time_limit > 0, "above 0 seconds"),
        "measure_seconds": (recipe.measure_seconds > 0, "above 0 seconds"),
        "threads": (recipe.threads >= 1, "1 or more"),
        "batch": (recipe.batch >= 1, "1 or more"),
        "tokens": (recipe.tokens is None or recipe.tokens >= 1, "1 or more"),
        "rounds": (recipe.rounds >= 0, "0 or more"),
        "bits": (recipe.bits is None or 2 <= recipe.bits <= 8, "from 2 to 8"),
        "average_bits": (recipe.average_bits is None or recipe.average_bits > 0, "above 0"),
        "factors": (
            recipe.factors is None or str(recipe.factors).count(",") == 1,
            "LEFT,RIGHT, the forms of two factors: 'float,ternary' say",
        ),
        "group_size": (recipe.group_size is None or recipe.group_size >= 1, "1 column or more"),
    }


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _rank(value: Any) -> int | str:
    """A rank as a number, or as the name of a rule."""
    if not isinstance(value, str) or re.fullmatch(r"\d+(\.0*)?", value):
        return int(_number("rank", value, int))
    from coldpress.space.rank_rules import named_rule  # it needs torch, which --help can do without

    named_rule(value)
    return value


def _number(name: str, value: Any, kind: type[int] | type[float]) -> int | float:
    """A setting as a number: YAML reads 1e-3 as text, and 5.0 is a whole number too."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise TaskError(f"{name} is {value!r}; it must be a number") from None
    if isinstance(value, bool) or not math.isfinite(found) or (kind is int and found != int(found)):
        raise TaskError(f"{name} is {value!r}; it must be a {'whole ' if kind is int else ''}number")
    return kind(found)
