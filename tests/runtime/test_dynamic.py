"""Dynamic int8 beside static int8 and floats, as a plan says, and what it computes is what was predicted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import coldpress as cp
from coldpress import steps
from coldpress.deploy import evaluate_file, export_both, int8_layers
from coldpress.energy.suffix import Suffix
from coldpress.errors import ExportError
from coldpress.network import evaluating
from coldpress.plan import Plan, Space
from coldpress.run import Run
from coldpress.runtime import export, run, session
from coldpress.runtime.dynamic import depends_on_batch, round_dynamically
from coldpress.space import find_space
from coldpress.space.bits import with_int8_form
from coldpress.surgery.effects import Effects
from coldpress.workspace import Workspace


class Tokens(nn.Module):
    """Two layers over tokens, called twice each, and a head over their mean."""

    def __init__(self, width: int = 24, inner: int = 40) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width, bias=False)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = x + self.down(nn.functional.gelu(self.up(x)))
        return self.head(x.mean(1))


def tokens(samples: int, seed: int = 0, width: int = 24) -> Tensor:
    return torch.randn(samples, 7, width, generator=torch.Generator().manual_seed(seed)) * 2 + 0.5


def prepared() -> tuple[nn.Module, Space]:
    torch.manual_seed(0)
    model = Tokens().eval()
    space = find_space(SimpleNamespace(model=model, example_inputs=(tokens(2),), ignored_layers=()), ["bits"])
    return model, with_int8_form(space, "both")


def deployed(model: nn.Module, space: Space, choices: dict[str, str], folder: Path) -> Path:
    path = folder / "model.onnx"
    int8 = int8_layers(space, Plan(choices), model)
    export_both(model, (tokens(2),), int8, (tokens(64, seed=1),), folder / "fp32.onnx", path)
    return path


def constants(path: Path) -> int:
    return sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(path).graph.initializer)


def test_every_layer_runs_in_the_form_that_the_plan_gives_it(tmp_path: Path) -> None:
    model, space = prepared()
    path = deployed(model, space, {"up:bits": "int8-dynamic", "down:bits": "int8"}, tmp_path)
    session(path, optimised_path=tmp_path / "optimised.onnx")
    found = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert (found["DynamicQuantizeMatMul"], found["QLinearMatMul"]) == (2, 2)
    assert found["Gemm"] + found["FusedGemm"] == 1
    assert not found["MatMul"]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layers", [("up",), ("down", "head"), ("up", "down", "head")])
def test_the_runtime_computes_what_was_predicted(layers: tuple[str, ...], batch: int, tmp_path: Path) -> None:
    model, space = prepared()
    choices = {f"{name}:bits": "int8-dynamic" for name in layers}
    inputs = tokens(6, seed=2)
    with Suffix(model, [inputs]) as suffix:
        predicted = suffix.run(Effects(model, space, {}, batch=batch).replacements(choices))
        change = (predicted - suffix.logits).abs().max()
    running = session(deployed(model, space, choices, tmp_path))
    found = torch.cat([torch.from_numpy(run(running, [part.numpy()])[0]) for part in inputs.split(batch)])
    assert 0 < (found - predicted).abs().max() < 0.3 * change


def test_a_file_is_judged_as_it_is_served(tmp_path: Path) -> None:
    model, space = prepared()
    inputs = torch.cat([tokens(1), 100 * tokens(1, seed=1)])
    task = cp.Task(model, inputs[:1], test=torch.utils.data.TensorDataset(inputs, torch.tensor([0, 1])))
    path = deployed(model, space, {"up:bits": "int8-dynamic"}, tmp_path)
    alone, together = (evaluate_file(task, path, "test", batch=batch).loss for batch in (1, 2))
    predicted = [run(session(path), [x.numpy()])[0] for x in (inputs[:1], inputs[1:])]
    wanted = nn.functional.cross_entropy(torch.from_numpy(np.concatenate(predicted)), torch.tensor([0, 1]))
    assert alone == pytest.approx(float(wanted), rel=1e-4)
    assert alone != pytest.approx(together, rel=1e-4)
    assert not depends_on_batch(tmp_path / "fp32.onnx")


def test_each_run_has_a_range_of_its_own() -> None:
    model, space = prepared()
    inputs = torch.cat([tokens(3), 100 * tokens(3, seed=1)])
    together, alone = (
        Effects(model, space, {}, batch=batch).replacements({"up:bits": "int8-dynamic"})["up"](inputs)[:3]
        for batch in (6, 1)
    )
    with evaluating(model):
        wanted = model.get_submodule("up")(inputs)[:3]
    assert (alone - wanted).abs().max() < 0.1 * (together - wanted).abs().max()


@pytest.mark.parametrize("name", ["up", "down", "head"])
def test_stored_bytes_are_as_predicted(name: str, tmp_path: Path) -> None:
    model, space = prepared()
    choices = {f"{name}:bits": "int8-dynamic"}
    path = deployed(model, space, choices, tmp_path)
    before, after = (sum(s.bytes for _, s in space.configured(c) if s is not None) for c in ({}, choices))
    assert constants(tmp_path / "fp32.onnx") - constants(path) == before - after > 0


def test_a_run_takes_the_form_that_pays_and_deploys_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tokens(128, 256).eval()
    data = [(tokens(64, seed, 128), torch.arange(64) % 5) for seed in range(4)]
    task = cp.Task(model, tokens(1, 4, 128), train=data[:2], validation=data[2:3], test=data[3:])
    settings = {"units": ("bits",), "calibration": 16, "refit_images": 32, "random_plans": 4, "refit_plans": 0}
    settings |= {"solver": "exact", "rounds": 0, "epochs": 0, "device": "rpi5"}  # modelled: nothing is timed
    result = cp.compress(task, cp.Budget(size="45%"), out=tmp_path / "run", **settings)
    assert result.plan.choices["up:bits"] == result.plan.choices["down:bits"] == "int8-dynamic"
    assert {"up", "down"} <= set(result.metrics["dynamic_layers"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "run" / "model.onnx").graph.node]
    assert kinds.count("MatMulInteger") >= 4
    assert result.metrics["budget"][0]["kept"]
    again = cp.compress(task, cp.Budget(size="45%"), int8="static", **settings)
    assert not again.metrics["dynamic_layers"]


def test_a_plan_from_elsewhere_may_name_either_form(tmp_path: Path) -> None:
    task = cp.Task(Tokens().eval(), tokens(2))
    recipe = cp.Recipe(choices=("up:bits=int8-dynamic", "down:bits=int8"))
    space = steps.offered(Run(task, recipe, Workspace(tmp_path / "run", "key")))
    assert [shape.dynamic for _, shape in space.configured(recipe.chosen()) if shape is not None] == [
        True,
        False,
        False,
    ]


def test_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    model, _ = prepared()
    path = export(model, (tokens(2),), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="'neck' is no layer"):
        round_dynamically(path, tmp_path / "int8.onnx", ["neck"])
    assert not (tmp_path / "int8.onnx").exists()
