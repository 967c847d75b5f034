"""The words everything else speaks: units and their options, the space they span, and a plan.

Nothing here knows of torch: a space and a plan are plain data, readable as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from coldpress.errors import PlanError
from coldpress.layer_shape import LayerShape, Method

UnitKind = Literal["width", "rank", "bits", "depth", "vocabulary"]


@dataclass(frozen=True)
class Option:
    """One way to treat a unit; which fields count depends on the unit's kind.

    Attributes:
        label: unique within the unit; "keep" leaves the unit as it is and always comes first.
        channels: channels kept (width; 0 where what makes them goes too), or rows of the table (vocabulary).
        method, rank: factorisation (rank).
        bits, dynamic: 32 or 8, and in which form, as in LayerShape (bits).
        drop: the block is removed (depth, or width 0).
    """

    label: str
    channels: int | None = None
    method: Method = "dense"
    rank: tuple[int, ...] = ()
    bits: int = 32
    dynamic: bool = False
    drop: bool = False


KEEP, DROP = "keep", "drop"


@dataclass(frozen=True)
class Unit:
    """One place in the model where something can be decided. ``options[0]`` leaves it as it is."""

    name: str
    kind: UnitKind
    target: str
    options: tuple[Option, ...]

    def index(self, label: str) -> int:
        """Position of the option called ``label``. Raises PlanError if there is none."""
        for i, option in enumerate(self.options):
            if option.label == label:
                return i
        allowed = ", ".join(option.label for option in self.options)
        raise PlanError(f"unit {self.name!r} has no option {label!r}; it has: {allowed}")


@dataclass(frozen=True, eq=False)
class Member:
    """A module's share in a channel group.

    Attributes:
        module: its name in the model.
        role: "out" (rows of its weight), "in" (columns of its weight), or "channel" (inputs and outputs together:
            normalisation, depthwise and grouped convolutions).
        index: ``(channels, repeat)`` the rows or columns that each channel of the group occupies.
    """

    module: str
    role: Literal["out", "in", "channel"]
    index: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of several modules that can only go together, in atoms of ``atom`` neighbouring channels.

    ``scaled`` names the attributes (module, attribute) that count them, or their atoms, and shrink in proportion.
    ``block`` names the module that goes when all of them do: it makes nothing else, and they are only ever concatenated
    with others; empty where some must stay.
    """

    name: str
    channels: int
    atom: int
    members: tuple[Member, ...]
    scaled: tuple[tuple[str, str], ...] = ()
    block: str = ""

    def of_role(self, role: str) -> tuple[Member, ...]:
        """The members with that role."""
        return tuple(member for member in self.members if member.role == role)


@dataclass(frozen=True)
class Branch:
    """A sub-layer of a transformer, attention or the feed-forward part, that may go by itself.

    What it adds to the residual stream is then a constant, the bias of its last layer.

    Attributes:
        last: its last layer, whose output is added to the stream.
        end: the outermost module that gives what ``last`` does; it becomes the constant.
        before: the module that only ``last`` reads, where ``end`` does not hold it; it then hands on its input.
        results: how many values ``end`` and ``before`` return each: 0 is a tensor, else a tuple that starts with one.
    """

    last: str
    end: str
    before: str = ""
    results: tuple[int, int] = (0, 0)

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that go."""
        return (self.end, self.before) if self.before else (self.end,)


@dataclass(frozen=True)
class Source:
    """Part of a layer's input width that a width unit governs: ``repeat`` inputs for each of the unit's channels.

    The rows of a table are its input width, governed by a vocabulary unit.
    """

    unit: int
    channels: int
    repeat: int = 1

    def lost(self, option: Option) -> int:
        """How many of the layer's inputs (outputs) go with an option of the unit."""
        return 0 if option.channels is None else self.repeat * (self.channels - option.channels)


@dataclass(frozen=True)
class Site:
    """A layer of the model and the units (by index, or None) that decide its shape.

    ``sources`` are the width units of its input, ``output`` that of its output; where groups > 1 they are the same
    unit, and the groups shrink with them. ``depth`` drops the block that it is in, ``branch`` the sub-layer.
    """

    name: str
    shape: LayerShape
    sources: tuple[Source, ...] = ()
    output: Source | None = None
    rank: int | None = None
    bits: int | None = None
    depth: int | None = None
    branch: int | None = None

    @property
    def droppers(self) -> tuple[int, ...]:
        """The units that may drop it."""
        return tuple(unit for unit in (self.depth, self.branch) if unit is not None)

    @property
    def units(self) -> tuple[int, ...]:
        """Indices of all units that this layer's cost depends on, sorted, each once."""
        found = {source.unit for source in self.sources}
        found |= {self.output.unit} if self.output else set()
        found |= {i for i in (self.rank, self.bits, *self.droppers) if i is not None}
        return tuple(sorted(found))

    def configured(self, options: Mapping[int, Option]) -> LayerShape | None:
        """The layer's shape under the options chosen (unit index to Option); None when it is dropped."""
        shape = self.shape
        if any(options[unit].drop for unit in self.droppers):
            return None
        inputs = shape.in_channels - sum(source.lost(options[source.unit]) for source in self.sources)
        outputs = shape.out_channels - (self.output.lost(options[self.output.unit]) if self.output else 0)
        groups = shape.groups
        if groups > 1:
            groups = groups * inputs // shape.in_channels
        chosen: dict[str, Any] = {}
        if shape.kind == "embedding" and inputs < shape.in_channels:
            chosen["tokens"] = shape.in_channels
        if self.rank is not None and options[self.rank].method != "dense":
            chosen |= {"method": options[self.rank].method, "rank": options[self.rank].rank}
        if self.bits is not None:
            chosen |= {"bits": options[self.bits].bits, "dynamic": options[self.bits].dynamic}
        return replace(shape, in_channels=inputs, out_channels=outputs, groups=groups, **chosen)


@dataclass(frozen=True)
class Space:
    """All units of a model with their options, and the layers whose cost they decide.

    ``refused`` names what was looked at and is not offered, with the reason; ``groups`` holds the channel group of
    every width unit, by unit name; ``meetings`` the pairs of layers (by index) where one's output is the other's input
    or both outputs are summed: there int8 and floats would have to be converted; ``branches`` the sub-layers that depth
    units drop, by unit name.
    """

    units: tuple[Unit, ...]
    sites: tuple[Site, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, ChannelGroup] = field(default_factory=dict)
    meetings: tuple[tuple[int, int], ...] = ()
    branches: Mapping[str, Branch] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of options of each unit."""
        return tuple(len(unit.options) for unit in self.units)

    def unit(self, name: str) -> Unit:
        """The unit called ``name``. Raises PlanError if there is none."""
        for unit in self.units:
            if unit.name == name:
                return unit
        raise PlanError(f"no unit is called {name!r}")

    def indices(self, choice: Mapping[str, str]) -> list[int]:
        """The chosen option of every unit, as its index; units not named keep."""
        return [unit.index(choice.get(unit.name, KEEP)) for unit in self.units]

    def options(self, choice: Mapping[str, str]) -> dict[int, Option]:
        """The chosen Option of every unit, by unit index; units not named keep."""
        return {i: unit.options[unit.index(choice.get(unit.name, KEEP))] for i, unit in enumerate(self.units)}

    def dropped(self, choice: Mapping[str, str]) -> dict[str, bool]:
        """The blocks that go, and whether no channel stays of what they make; else they hand on their input."""
        chosen = self.options(choice)
        gone = [unit for i, unit in enumerate(self.units) if chosen[i].drop and unit.name not in self.branches]
        return {self.block(unit): unit.kind == "width" for unit in gone}

    def constant(self, choice: Mapping[str, str]) -> tuple[Branch, ...]:
        """The sub-layers that go by themselves: those of dropped blocks are not among them."""
        blocks = tuple(f"{block}." for block in self.dropped(choice))
        found = (branch for name, branch in self.branches.items() if choice.get(name, KEEP) != KEEP)
        return tuple(branch for branch in found if not branch.last.startswith(blocks))

    def gone(self, choice: Mapping[str, str]) -> tuple[str, ...]:
        """All modules that go: blocks, and what sub-layers are made of."""
        return (*self.dropped(choice), *(name for branch in self.constant(choice) for name in branch.modules))

    def block(self, unit: Unit) -> str:
        """The module that goes where an option of the unit drops it."""
        return self.groups[unit.name].block if unit.kind == "width" else unit.target

    def configured(self, choice: Mapping[str, str]) -> Iterator[tuple[Site, LayerShape | None]]:
        """Every layer with its shape under ``choice`` (None: dropped)."""
        options = self.options(choice)
        for site in self.sites:
            yield site, site.configured(options)


@dataclass(frozen=True)
class Plan:
    """The chosen option of every unit: all that is needed to redo the surgery.

    Attributes:
        choices: unit name to option label; a unit that is not named keeps.
        kept: width unit name to the channels that stay, in ascending order; vocabulary unit name to the rows.
        structure: module name to its new form, filled in by surgery; enough to rebuild the network on a fresh
            instance without data.
    """

    choices: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    structure: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> str:
        """The plan as indented JSON; ``Plan.from_json`` reads it back."""
        data = asdict(self)
        data["kept"] = {name: list(kept) for name, kept in self.kept.items()}
        return json.dumps({"coldpress_plan": 1, **data}, indent=1, sort_keys=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan. Raises PlanError when the text is not one."""
        try:
            data = json.loads(text)
            version, choices = data["coldpress_plan"], dict(data["choices"])
            kept = {name: tuple(int(i) for i in rows) for name, rows in data.get("kept", {}).items()}
            structure = dict(data.get("structure", {}))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(f"this is not a coldpress plan: {error!r}") from error
        if version != 1:
            raise PlanError(f"plan format {version!r} is unknown; this version reads format 1")
        return cls(choices, kept, structure)
