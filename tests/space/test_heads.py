"""Attention loses whole heads: queries, keys, values and the columns that read them go together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.plan import Plan
from coldpress.runtime import export, run, session
from coldpress.space import find_space
from coldpress.space.heads import head_sizes
from coldpress.surgery.apply import apply_plan

HEADS, SIZE = 6, 4


class Attention(nn.Module):
    """Self-attention whose number of heads follows from its layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, HEADS * SIZE) for _ in range(3))
        self.output = nn.Linear(HEADS * SIZE, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (p(x).unflatten(-1, (-1, SIZE)).transpose(1, 2) for p in (self.query, self.key, self.value))
        return self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    """One block before a classifier, on tokens ``(batch, tokens, 8)``."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = Attention(8), nn.LayerNorm(8)
        self.up, self.down, self.head = nn.Linear(8, 32), nn.Linear(32, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x + self.attention(x))
        return self.head((x + self.down(F.gelu(self.up(x)))).mean(1))


@pytest.fixture
def task() -> SimpleNamespace:
    torch.manual_seed(0)
    return SimpleNamespace(model=Encoder().eval(), example_inputs=(torch.randn(2, 5, 8),), ignored_layers=())


def test_heads_are_found_with_their_size(task: SimpleNamespace) -> None:
    assert head_sizes(task.model, task.example_inputs) == (SIZE,)
    space = find_space(task, ["width"])
    group = space.groups["attention.query:width"]
    assert (group.channels, group.atom) == (HEADS * SIZE, SIZE)
    roles = {(member.module, member.role) for member in group.members}
    assert roles == {(f"attention.{name}", "out") for name in ("query", "key", "value")} | {("attention.output", "in")}
    assert all((option.channels or 0) % SIZE == 0 for option in space.unit("attention.query:width").options)
    assert "up:width" in space.groups


def test_without_attention_there_are_no_heads() -> None:
    assert head_sizes(nn.Linear(4, 2), (torch.randn(2, 4),)) == ()


def test_a_network_without_some_heads_runs_everywhere(task: SimpleNamespace, tmp_path: Path) -> None:
    space = find_space(task, ["width"])
    kept = tuple(range(SIZE)) + tuple(range(3 * SIZE, 4 * SIZE))
    plan = Plan({"attention.query:width": f"{len(kept)}/{HEADS * SIZE}"}, {"attention.query:width": kept})
    small, _ = apply_plan(task.model, space, plan)
    assert small.attention.value.weight.shape == (2 * SIZE, 8)
    masked = Encoder().eval()
    masked.load_state_dict(task.model.state_dict())
    gone = [i for i in range(HEADS * SIZE) if i not in kept]
    with torch.no_grad():
        masked.attention.output.weight[:, gone] = 0.0
        x = torch.randn(4, 5, 8)
        assert torch.allclose(small(x), masked(x), atol=1e-5)
        file = session(export(small, task.example_inputs, tmp_path / "small.onnx"))
        assert np.allclose(run(file, [x.numpy()])[0], small(x).numpy(), atol=1e-4)
