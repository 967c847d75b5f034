"""Running what comes after a change gives what a full run gives, and leaves the network untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.energy.suffix import Suffix
from coldpress.network import LAYER_TYPES, evaluating, first_tensor, forwarding, replace_module
from tiny import NETWORKS, InPlace, as_if_trained, build, images, inputs_of


class Instead(nn.Module):
    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


def networks() -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    found: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {n: (build(n), inputs_of(n)) for n in NETWORKS}
    torch.manual_seed(0)
    return found | {"in place": (as_if_trained(InPlace()), images(4))}


def changed(model: nn.Module, name: str) -> Callable[[Tensor], Tensor]:
    """The layer's forward with another weight."""
    layer: Any = model.get_submodule(name)
    weight = layer.weight.detach() * 0.8 + 0.01
    if isinstance(layer, nn.Linear):
        return lambda x: F.linear(x, weight, layer.bias)
    return lambda x: layer._conv_forward(x, weight, layer.bias)


@pytest.mark.parametrize("name", [*NETWORKS, "in place"])
def test_a_replaced_layer_equals_a_full_run_with_it(name: str) -> None:
    model, inputs = networks()[name]
    other = networks()[name][0]
    layers = [n for n, module in model.named_modules() if isinstance(module, LAYER_TYPES)]
    wanted = []
    for layer in layers:
        original = other.get_submodule(layer)
        replace_module(other, layer, Instead(changed(model, layer)))
        with torch.no_grad():
            wanted.append(first_tensor(other(*inputs)))
        replace_module(other, layer, original)
    with Suffix(model, inputs) as suffix:
        for _ in range(2):  # what one run writes into, the next must not read
            for layer, logits in zip(layers, wanted):
                torch.testing.assert_close(suffix.run({layer: changed(model, layer)}), logits, msg=layer)
        every = {layer: changed(model, layer) for layer in layers}
        both = suffix.run(every)
    for layer in layers:
        replace_module(other, layer, Instead(every[layer]))
    with torch.no_grad():
        torch.testing.assert_close(both, first_tensor(other(*inputs)))


@pytest.mark.parametrize("name", ["projected shortcuts", "in place"])
def test_the_network_is_untouched_afterwards_even_if_a_run_fails(name: str) -> None:
    model, inputs = networks()[name]
    model.train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    kept = [tensor.clone() for tensor in inputs]
    with evaluating(model):
        wanted = first_tensor(model(*inputs))

    def fail(x: Tensor) -> Tensor:
        raise RuntimeError("no")

    with Suffix(model, inputs) as suffix:
        torch.testing.assert_close(suffix.logits, wanted)
        with pytest.raises(RuntimeError, match="no"):
            suffix.run({"head": fail})
    assert model.training
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(inputs, kept))
    with evaluating(model):
        assert torch.equal(first_tensor(model(*inputs)), wanted)


def test_a_network_that_fails_while_recorded_is_untouched_too() -> None:
    model, _ = networks()["tuple"]
    with pytest.raises(RuntimeError), Suffix(model, [torch.zeros(1, 4, 8, 8)]):
        pass
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_dropped_block_in_front_of_a_function_that_writes_does_not_spoil_the_record() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv(x)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Block(), nn.ReLU(inplace=True), Block(), nn.Flatten(), nn.Linear(768, 2))
    inputs = images(2)
    with Suffix(model.eval(), inputs) as suffix:
        first = suffix.run({"1": lambda x: x})
        later = suffix.run({"3": lambda x: x})
        again = suffix.run({"1": lambda x: x})
    with torch.no_grad():
        stem = model[0](*inputs)
        wanted = model[5](model[4](model[3](stem.relu())))
        torch.testing.assert_close(first, wanted)
        torch.testing.assert_close(again, wanted)
        torch.testing.assert_close(later, model[5](model[4](model[1](model[0](*inputs)).relu())))


@pytest.mark.parametrize("name", [*NETWORKS, "in place"])
def test_parts_and_a_base_change_nothing(name: str) -> None:
    model, inputs = networks()[name]
    layers = [n for n, module in model.named_modules() if isinstance(module, LAYER_TYPES)]
    base = {layer: changed(model, layer) for layer in layers[::2]}
    with Suffix(model, inputs) as suffix:
        plain = suffix.logits
        wanted = suffix.run(base)
        more = {layer: suffix.run({**base, layer: changed(model, layer)}) for layer in layers}
        less = {layer: suffix.run({k: v for k, v in base.items() if k != layer}) for layer in base}
    with Suffix(model, inputs, base, batch=3) as suffix:
        torch.testing.assert_close(suffix.logits, wanted)
        torch.testing.assert_close(suffix.run({}), plain)
        for layer in layers:
            torch.testing.assert_close(suffix.run({**base, layer: changed(model, layer)}), more[layer], msg=layer)
        for layer in base:
            torch.testing.assert_close(suffix.run({k: v for k, v in base.items() if k != layer}), less[layer])


def test_a_network_that_needs_its_channels_outermost_runs() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.conv(x).view(len(x), -1))

    model, inputs = Views().eval(), images(5, size=8)
    with torch.no_grad():
        wanted = model(*inputs)
    with Suffix(model, inputs, batch=2) as suffix:
        torch.testing.assert_close(suffix.logits, wanted)
        torch.testing.assert_close(
            suffix.run({"linear": lambda x: F.linear(x, model.linear.weight)}) + model.linear.bias, wanted
        )


class Words(nn.Module):
    """Mean of the real tokens, and how many tokens it was given."""

    def __init__(self, each: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.up, self.down = nn.Embedding(10, 4), nn.Linear(4, 6), nn.Linear(6, 3)
        self.each, self.given = each, 0

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        self.given += ids.numel()
        hidden = self.down(torch.relu(self.up(self.words(ids))))
        return hidden if self.each else (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


@pytest.mark.parametrize("each", [False, True])
def test_texts_are_run_by_length_and_come_back_in_their_order(each: bool) -> None:
    model = Words(each).eval()
    lengths = torch.randint(1, 30, (50,), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(30) < lengths[:, None]).long()
    ids = torch.randint(1, 10, (50, 30), generator=torch.Generator().manual_seed(1)) * mask
    wanted = model(ids, mask).detach().reshape(-1, 3)
    change = {"up": changed(model, "up")}
    with forwarding(model, change):
        moved = model(ids, mask).detach().reshape(-1, 3)
    model.given = 0
    with Suffix(model, [ids, mask], batch=8) as suffix:
        torch.testing.assert_close(suffix.logits, wanted)
        recorded = model.given
        torch.testing.assert_close(suffix.run(change), moved)
    assert (recorded < ids.numel()) == (not each)


class OfOneLength(nn.Module):
    """Takes texts of 12 tokens, as filled up; or the mean over all tokens, filling included."""

    def __init__(self, mean: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.mean = nn.Embedding(10, 4), mean
        self.up = nn.Linear(4 if mean else 48, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        words = self.words(ids)
        return self.up(words.mean(1) if self.mean else words.flatten(1))


@pytest.mark.parametrize("mean", [False, True])
def test_texts_that_the_model_needs_filled_up_are_left_so(mean: bool) -> None:
    model = OfOneLength(mean).eval()
    lengths = torch.randint(1, 13, (20,), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(12) < lengths[:, None]).long()
    ids = torch.randint(1, 10, (20, 12), generator=torch.Generator().manual_seed(1)) * mask
    with Suffix(model, [ids, mask], batch=8) as suffix:
        torch.testing.assert_close(suffix.logits, model(ids, mask).detach())
