"""Transformers of many makes: heads and neurons are found, go together, and the smaller network runs everywhere."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from coldpress.plan import Plan
from coldpress.runtime import export, run, session
from coldpress.space import find_space
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.structure import rebuild

from .makes import SUBJECTS


@pytest.mark.parametrize("name", SUBJECTS)
def test_half_of_the_heads_and_neurons_go_and_the_network_runs_everywhere(name: str, tmp_path: Path) -> None:
    model, inputs = SUBJECTS[name]()
    task = SimpleNamespace(model=model, example_inputs=inputs, ignored_layers=())
    space = find_space(task, ["width", "depth"])
    groups = [group for unit, group in space.groups.items() if "pooler" not in unit and "classifier" not in unit]
    heads = [group for group in groups if group.atom == 8]
    neurons = [group for group in groups if group.channels in (48, 128)]
    assert (len(heads), len(neurons)) == (2, 2)
    assert sum(unit.kind == "depth" and unit.name not in space.branches for unit in space.units) == 2
    kept, choices = {}, {}
    for group in (*heads, *neurons):
        unit = space.unit(f"{group.name}:width")
        half = min(unit.options[1:], key=lambda option, size=group.channels: abs((option.channels or 0) - size // 2))
        choices[unit.name], count = half.label, half.channels or 0
        kept[unit.name] = tuple(range(group.channels - count, group.channels))
    small, plan = apply_plan(model, space, Plan(choices, kept))
    masked, _ = SUBJECTS[name]()
    with torch.no_grad():
        for group in (*heads, *neurons):
            gone = np.setdiff1d(np.arange(group.channels), kept[f"{group.name}:width"])
            for member in group.of_role("in"):
                masked.get_submodule(member.module).get_parameter("weight")[:, member.index[gone].ravel()] = 0.0
        wanted = masked(*inputs)
        torch.testing.assert_close(small(*inputs), wanted, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(wanted, model(*inputs), atol=1e-3)
        fresh, _ = SUBJECTS[name]()
        rebuild(fresh, plan.structure)
        fresh.load_state_dict(small.state_dict())
        torch.testing.assert_close(fresh(*inputs), small(*inputs))
        file = session(export(small, inputs, tmp_path / "small.onnx"))
        found = run(file, [tensor.numpy() for tensor in inputs])[0]
    np.testing.assert_allclose(found, small(*inputs).detach().numpy(), rtol=1e-3, atol=1e-3)
