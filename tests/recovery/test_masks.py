"""What was pruned stays zero while a network learns, under every optimiser."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from coldpress.errors import TaskError
from coldpress.recovery import Settings, fit, held
from coldpress.task import Task


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))


def task(model: nn.Module) -> Task:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    images = labels.view(-1, 1, 1, 1) - 1.0 + 0.3 * torch.randn(60, 1, 4, 4, generator=generator)
    return Task(model, torch.zeros(1, 1, 4, 4), train=TensorDataset(images, labels))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_what_is_masked_stays_zero_and_the_rest_learns(optimizer: str) -> None:
    model = network()
    generator = torch.Generator().manual_seed(1)
    masks = {name: torch.rand(model.get_submodule(name).weight.shape, generator=generator) > 0.5 for name in ("0", "4")}
    before = {name: model.get_submodule(name).weight.detach().clone() for name in masks}
    settings = Settings(epochs=2, optimizer=optimizer, lr=0.02, batch_size=16, precision="fp32", device="cpu")  # type: ignore[arg-type]
    with held(model, masks):
        fit(model, task(model), settings)
    for name, mask in masks.items():
        weight = model.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter)
        assert bool((weight[~mask] == 0).all())
        assert bool((weight[mask] != before[name][mask]).all())
    assert set(model.state_dict()) == set(network().state_dict())


def test_biases_are_held_by_their_names() -> None:
    model = network()
    settings = Settings(epochs=1, lr=0.02, batch_size=16, precision="fp32", device="cpu")
    mask = torch.arange(8) > 2
    with held(model, {"1": mask, "1.bias": mask}):
        fit(model, task(model), settings)
    norm = model.get_submodule("1")
    for tensor in (norm.weight, norm.bias):
        assert ((tensor == 0) == ~mask).all()
    with pytest.raises(TaskError, match="its bias"), held(model, {"1.bias": mask[:2]}):
        pass
    assert set(model.state_dict()) == set(network().state_dict())


def test_a_mask_of_another_shape_is_refused_and_nothing_stays_behind() -> None:
    model = network()
    mask = torch.ones(8, 1, 3, 3, dtype=torch.bool)
    with pytest.raises(TaskError, match="shape"), held(model, {"0": mask, "4": torch.ones(2, 2, dtype=torch.bool)}):
        pass
    assert set(model.state_dict()) == set(network().state_dict())
