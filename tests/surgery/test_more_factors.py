"""CP and tensor trains are deployed: the file computes what was predicted, in floats and in int8, and weighs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from coldpress.cost.size import size_cost
from coldpress.deploy import export_both, int8_layers
from coldpress.errors import SpaceError
from coldpress.plan import Plan
from coldpress.runtime.sessions import run, session
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.moments import collect_moments
from tiny import build, inputs_of, space_of

KINDS = ("rank", "cp", "tensor-train", "bits")


class Both(nn.Module):
    """A convolution and a linear layer on tokens, both large enough to be factorised."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.tokens, self.head = nn.Conv2d(16, 24, 3, 2, 1), nn.Linear(24, 96), nn.Linear(96, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x)).flatten(2).transpose(1, 2)
        return self.head(torch.relu(self.tokens(x)).mean(1))


def images(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 16, 12, 12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", [{}, {"conv:bits": "int8", "tokens:bits": "int8"}])
@pytest.mark.parametrize("sequential", [False, True])
def test_the_deployed_file_computes_and_weighs_what_was_predicted(
    bits: dict[str, str], sequential: bool, tmp_path: Path
) -> None:
    model = Both().eval()
    space = space_of(model, (images(1),), *KINDS)
    labels = {unit.name: [option.label for option in unit.options] for unit in space.units}
    choices = {
        "conv:rank": next(label for label in labels["conv:rank"] if label.startswith("cp")),
        "tokens:rank": next(label for label in labels["tokens:rank"] if label.startswith("tensor-train")),
    }
    moments = collect_moments(model, [site.name for site in space.sites], [images(64)])
    choices |= bits
    calibration = [images(32, 3)] if sequential else None
    student, plan = apply_plan(model, space, Plan(choices), moments=moments, calibration=calibration)
    files = {}
    for name, network, int8 in (("before", model, {}), ("after", student, int8_layers(space, plan, student))):
        files[name] = tmp_path / f"{name}.onnx"
        export_both(network, (images(2),), int8, [images(32, 3)], tmp_path / "fp32.onnx", files[name])
    (found,) = run(session(files["after"]), [images(7, 2).numpy()])
    wanted = student(images(7, 2)).detach()
    assert float((torch.from_numpy(found) - wanted).norm() / wanted.norm()) < (0.1 if bits else 1e-5)
    saved = size_cost(space).value([0] * len(space.units)) - size_cost(space).value(space.indices(choices))
    # nodes of int8 are text in a file of 30 kB
    assert files["before"].stat().st_size - files["after"].stat().st_size == pytest.approx(
        saved, abs=8e3 if bits else 2e3
    )


def test_they_are_options_only_where_asked_for_and_fit() -> None:
    model = Both()
    usual = space_of(model, (images(1),), "rank")
    assert not any(o.method in ("cp", "tensor-train") for unit in usual.units for o in unit.options)
    only = space_of(model, (images(1),), "cp")
    assert [unit.name for unit in only.units] == ["conv:rank"]  # linear layers have no CP form
    with pytest.raises(SpaceError, match="tensor-train"):
        space_of(build("flatten"), inputs_of("flatten"), "mps")
