"""BatchNorm recalibration."""

import pytest
import torch
from torch import nn

from coldpress.errors import TaskError
from coldpress.recovery import recalibrate


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 5),
        nn.BatchNorm1d(5),
    )


INPUTS = torch.randn(50, 2, 6, 6, generator=torch.Generator().manual_seed(1)) * 3 + 1


@pytest.mark.parametrize("batch_size", [7, 16, 50, 999])
def test_first_statistics_are_those_of_all_samples(batch_size: int) -> None:
    model = net()
    assert recalibrate(model, (INPUTS,), batch_size) == 2
    with torch.no_grad():
        values = model[0](INPUTS).transpose(0, 1).flatten(1)
    assert torch.allclose(model[1].running_mean, values.mean(1), atol=1e-5)
    assert torch.allclose(model[1].running_var, values.var(1), rtol=1e-4)


def test_in_one_batch_eval_mode_equals_train_mode() -> None:
    model = net()
    model[2].p = 0.0
    recalibrate(model, (INPUTS,), 64)
    with torch.no_grad():
        calibrated = model(INPUTS)
        trained = model.train()(INPUTS)
    assert torch.allclose(calibrated, trained, atol=0.1)


def test_nothing_else_changes() -> None:
    model = net()
    momentum = model[1].momentum
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    recalibrate(model, (INPUTS,))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name for name in changed if "running" not in name and "tracked" not in name} == set()
    assert torch.equal(torch.get_rng_state(), state)
    assert model[1].momentum == momentum
    assert not any(module.training for module in model.modules())
    assert not model[1]._forward_pre_hooks


def test_a_layer_that_is_not_reached_keeps_its_statistics() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.BatchNorm1d(3), nn.BatchNorm1d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    model = Unused()
    assert recalibrate(model, (torch.randn(9, 3),)) == 1
    assert torch.equal(model.unused.running_var, torch.ones(3))


def test_one_sample_is_refused_and_no_batch_of_one_is_made() -> None:
    with pytest.raises(TaskError, match="on 1 sample"):
        recalibrate(net(), (INPUTS[:1],))
    recalibrate(net(), (INPUTS[:3],), batch_size=1)


def test_a_model_without_batchnorm_is_left_alone() -> None:
    assert recalibrate(nn.Linear(2, 2), (torch.zeros(1, 2),)) == 0
