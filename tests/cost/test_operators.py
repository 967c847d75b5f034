"""What an exported network's operators do, and how long that takes on a machine that is not here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.cost.operators import Operator, operators_of
from coldpress.cost.profiles import PROFILES, ModelledTable
from coldpress.deploy import Form, export_both, served
from coldpress.runtime.onnx import export
from coldpress.space.layers import count_macs

HEAD = 16


class Block(nn.Module):
    """One encoder layer with a number of heads, on embedded tokens."""

    def __init__(self, heads: int, width: int = 64) -> None:
        super().__init__()
        inner = HEAD * heads
        self.table, self.norm, self.head = nn.Embedding(100, width), nn.LayerNorm(width), nn.Linear(width, 4)
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.out, self.wide, self.narrow = nn.Linear(inner, width), nn.Linear(width, 128), nn.Linear(128, width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)

        def heads(y: Tensor) -> Tensor:
            return y.unflatten(2, (-1, HEAD)).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(heads(self.query(x)), heads(self.key(x)), heads(self.value(x)))
        x = self.norm(x + self.out(mixed.transpose(1, 2).flatten(2)))
        x = x + self.narrow(F.gelu(self.wide(x)))
        return self.head(x.mean(1))


class Written(Block):
    """The same, its attention as single products."""

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        q, k, v = (layer(x).unflatten(2, (-1, HEAD)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = (q @ k.transpose(2, 3) / HEAD**0.5).softmax(-1) @ v
        x = self.norm(x + self.out(mixed.transpose(1, 2).flatten(2)))
        x = x + self.narrow(F.gelu(self.wide(x)))
        return self.head(x.mean(1))


def convolutional(width: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, width, 3, groups=width // 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(width, 4),
    ).eval()


@pytest.fixture
def operators(tmp_path: Path) -> Callable[..., dict[Operator, int]]:
    def found(network: nn.Module, example: Tensor, batch: int = 1) -> dict[Operator, int]:
        torch.manual_seed(0)
        path = export(network, (example,), tmp_path / "network.onnx")
        return operators_of(path, served((example,), batch))

    return found


def tokens(length: int) -> Tensor:
    return torch.arange(length)[None] % 100


def macs(operators: dict[Operator, int]) -> int:
    """Of operators with weights."""
    return sum(times * operator.macs for operator, times in operators.items() if operator.weights)


def test_layers_do_what_is_counted_in_torch(operators: Callable[..., dict[Operator, int]]) -> None:
    image = torch.rand(1, 3, 12, 12)
    network = convolutional(16)
    assert macs(operators(network, image)) == count_macs(network, (image,))
    assert macs(operators(network, image, batch=3)) == 3 * count_macs(network, (image,))


@pytest.mark.parametrize("kind", [Block, Written])
def test_attention_counts_and_goes_with_its_heads(
    operators: Callable[..., dict[Operator, int]], kind: type[Block]
) -> None:
    length = 32
    whole, half = (operators(kind(heads).eval(), tokens(length)) for heads in (4, 2))
    for found, heads in ((whole, 4), (half, 2)):
        products = sum(times * operator.macs for operator, times in found.items() if not operator.weights)
        assert products >= 2 * length * length * HEAD * heads
        assert products <= 3 * length * length * HEAD * heads
    machine = ModelledTable(PROFILES["rpi5"])
    assert machine.network(half) < machine.network(whole)


def test_a_transformers_time_grows_faster_with_the_text_than_its_layers(
    operators: Callable[..., dict[Operator, int]],
) -> None:
    short, long = (operators(Block(4).eval(), tokens(length)) for length in (64, 512))

    def growth(machine: ModelledTable, layers: bool) -> float:
        before, after = (
            {o: n for o, n in found.items() if not layers or o.weights * o.macs} for found in (short, long)
        )
        return machine.network(after) / machine.network(before)

    for profile in PROFILES.values():
        assert growth(ModelledTable(profile), layers=False) > growth(ModelledTable(profile), layers=True)


def test_a_convolutional_network_is_the_faster_the_narrower(
    operators: Callable[..., dict[Operator, int]],
) -> None:
    machine = ModelledTable(PROFILES["rpi4"])
    seconds = [machine.network(operators(convolutional(w), torch.rand(1, 3, 32, 32))) for w in (8, 16, 32)]
    assert seconds == sorted(set(seconds))


def test_a_look_up_moves_the_rows_alone(operators: Callable[..., dict[Operator, int]]) -> None:
    rows = nn.Sequential(nn.Embedding(100_000, 8), nn.Flatten(), nn.Linear(16, 2)).eval()
    assert max(o.weights + o.activations for o in operators(rows, tokens(2))) < 1000


@pytest.mark.parametrize(
    ("network", "samples", "int8"),
    [
        (Block(2), torch.arange(240).reshape(20, 12) % 100, {"wide": "static", "query": "dynamic", "table": "static"}),
        (convolutional(16), torch.rand(20, 3, 12, 12), {"4": "static", "8": "static"}),
    ],
)
def test_integer_layers_are_counted_as_such(
    network: nn.Module, samples: Tensor, int8: dict[str, Form], tmp_path: Path
) -> None:
    files = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    export_both(network.eval(), (samples[:1],), int8, (samples,), *files)
    floats, integers = (operators_of(path, served((samples[:1],), 1)) for path in files)
    assert macs(floats) == macs(integers)
    assert {o.bits for o in floats} == {32}
    assert sum(times for o, times in integers.items() if o.bits == 8) == 2
