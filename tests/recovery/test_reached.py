"""GoogLeNet's auxiliary heads: none in what has a name here, refused where pruning would break them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.data import TensorDataset

from coldpress import Budget, Task, compress, zoo
from coldpress.errors import TaskError
from coldpress.network import first_tensor
from coldpress.papers.presets import compress_by_preset
from coldpress.papers.qianets_steps import attended_blocks
from coldpress.recovery import Settings, check_reached, fit
from tiny import NETWORKS, build, inputs_of


def googlenet(**arguments: bool) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.googlenet(weights=None, num_classes=3, init_weights=False, **arguments)
    return model


def data(count: int) -> TensorDataset:
    return TensorDataset(torch.randn(count, 3, 32, 32), torch.arange(count) % 3)


def test_the_named_googlenet_has_no_auxiliary_heads() -> None:
    model = zoo.model("torchvision:googlenet", 3)
    assert (model.aux1, model.aux2) == (None, None)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert model(x).shape == model.train()(x).shape == (2, 3)
    check_reached(model, (x[:1],))


def test_a_googlenet_with_auxiliary_heads_trains_as_it_is_and_is_refused_where_its_channels_go(tmp_path: Path) -> None:
    model = googlenet(aux_logits=True).train()
    assert len(attended_blocks(model)) == 9
    task = Task(model, torch.randn(1, 3, 32, 32), train=data(8), validation=data(3))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        TaskError, match=r"training runs .* aux1\.conv\.conv, aux1\.fc1.*model\.aux1 = model\.aux2 = None"
    ):
        compress(task, Budget(macs="50%"))
    with pytest.raises(TaskError, match=r"aux1\.conv\.conv"):
        compress_by_preset(task, tmp_path / "run", "qianets", sparsity=0.3)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    settings = Settings(epochs=1, lr=0.01, batch_size=4, precision="fp32", device="cpu")
    history = fit(task.model, task, settings)
    assert history.epochs[-1].train_loss is not None
    model.aux1 = model.aux2 = None
    check_reached(model, task.example_inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_without_such_layers_pass(name: str) -> None:
    model, inputs = build(name), inputs_of(name)
    check_reached(model, inputs)
    assert first_tensor(model(*inputs)).requires_grad
