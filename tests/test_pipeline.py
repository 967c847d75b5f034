"""The whole way on a tiny network: within budget, saved as returned, resumable, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coldpress.artifact import FILES, load, read_metrics, read_plan
from coldpress.budget import Budget
from coldpress.errors import ArtifactError, BudgetError, HardwareError, TaskError
from coldpress.network import evaluating, first_tensor
from coldpress.pipeline import Result, compress, predict
from coldpress.recipe import Recipe
from coldpress.runtime import run, session
from coldpress.samplers.kinds import MOCK
from coldpress.space import layer_shapes
from coldpress.task import Task
from tiny import Head, Pair, Projected, as_if_trained, conv, images

FAST = {"units": ("width", "depth"), "calibration": 32, "random_plans": 6, "refit_plans": 2, "solver": "anneal"}
FAST |= {"time_limit": 1.0, "epochs": 0}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path / "cache"))


def network(factory: Any = Projected) -> nn.Module:
    torch.manual_seed(0)
    return as_if_trained(factory())


def batches(count: int, seed: int, model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Images labelled by a network of random weights, so that it is right about all of them."""
    (x,) = images(count, seed=seed)
    with evaluating(model):
        logits = first_tensor(model(x))
        labels = (logits - logits.mean(0)).argmax(1)
    return [(x[i : i + 32], labels[i : i + 32]) for i in range(0, count, 32)]


def task_of(factory: Any = Projected, **data: Any) -> Task:
    model = network(factory)
    given = {"train": batches(128, 1, model), "validation": batches(64, 2, model), "test": batches(64, 3, model)}
    return Task(model, images(1)[0], **(given | data))


def macs(model: nn.Module) -> int:
    return sum(shape.macs for shape in layer_shapes(model, images(1)).values())


def outputs(model: nn.Module) -> Tensor:
    with evaluating(model):
        return first_tensor(model(*images(5, seed=4)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return compress(task_of(), Budget(macs="50%"), out=tmp_path_factory.mktemp("runs") / "run", **FAST)


def test_the_network_is_within_its_budget(finished: Result) -> None:
    assert 0.2 * macs(network()) < macs(finished.model) <= 0.5 * macs(network())
    assert finished.plan.choices


def test_the_metrics_say_whether_the_budget_was_kept(finished: Result) -> None:
    (row,) = finished.metrics["budget"]
    assert row["kept"]
    assert row["asked"] == "50%"
    assert row["reached"] == macs(finished.model) <= row["limit"] == 0.5 * macs(network())


class Broad(Head):
    """Wide enough that its layers' work, and not the calls, takes its time."""

    def __init__(self) -> None:
        super().__init__(64)
        self.body = nn.Sequential(conv(3, 64), conv(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.body(x))


def test_the_same_command_gives_the_same_plan_on_this_machine_under_a_latency_budget() -> None:
    settings = {**FAST, "units": ("width",), "measure_seconds": 90.0}
    first, second = (compress(task_of(Broad), Budget(latency="70%"), **settings) for _ in range(2))
    assert first.plan.choices
    assert second.plan.choices == first.plan.choices
    assert second.metrics["predicted"]["latency_fraction"] == first.metrics["predicted"]["latency_fraction"]


def test_what_is_saved_is_what_is_returned(finished: Result) -> None:
    assert finished.folder is not None
    assert all((finished.folder / name).is_file() for name in (*FILES, "report.html"))
    assert torch.equal(outputs(load(finished.folder, Projected)), outputs(finished.model))
    torch.testing.assert_close(outputs(load(finished.folder)), outputs(finished.model), atol=1e-4, rtol=1e-4)
    (logits, *_) = run(session(finished.folder / "model.fp32.onnx"), {"input": images(5, seed=4)[0].numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), outputs(finished.model), atol=1e-4, rtol=1e-4)
    assert read_plan(finished.folder) == finished.plan
    assert json.loads(json.dumps(finished.metrics)) == read_metrics(finished.folder)
    assert not finished.folder.with_name("run.partial").exists()


def test_the_recipe_in_the_folder_asks_for_the_same(finished: Result) -> None:
    assert finished.folder is not None
    recipe = Recipe.read(finished.folder / "recipe.yaml")
    assert recipe.budget == ("macs=50%",)
    assert recipe.units == FAST["units"]


def test_the_given_model_is_left_alone() -> None:
    task = task_of()
    before = {key: value.clone() for key, value in task.model.state_dict().items()}
    compress(task, Budget(macs="60%"), **FAST)
    assert all(torch.equal(before[key], value) for key, value in task.model.state_dict().items())


class Stopped(BaseException):
    """Ctrl-C, as far as the run can tell."""


def test_a_run_stopped_anywhere_goes_on_to_the_same_plan_and_weights(finished: Result, tmp_path: Path) -> None:
    settings = {**FAST, "epochs": 1}
    whole = compress(task_of(), Budget(macs="50%"), out=tmp_path / "whole", **settings)
    assert whole.plan.choices == finished.plan.choices
    seen: list[str] = []
    while True:

        def stop(step: str, done: int, total: int) -> None:
            if step not in seen:
                seen.append(step)
                raise Stopped

        try:
            result = compress(task_of(), Budget(macs="50%"), out=tmp_path / "run", progress=stop, **settings)
        except Stopped:
            assert not (tmp_path / "run").exists()
            assert len(seen) < 20
            continue
        break
    assert len(seen) >= 4
    assert result.plan == whole.plan
    assert torch.equal(outputs(result.model), outputs(whole.model))
    assert not (tmp_path / "run.partial").exists()


def test_a_dry_run_measures_for_later_runs_of_any_budget(
    finished: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "measured"
    seen = predict(task_of(), Budget(macs="70%"), measurements=kept, **FAST)
    (folder,) = kept.iterdir()
    assert {path.name for path in folder.iterdir()} == {
        *("prices.json", "orders.json", "energy.safetensors", "correlation.json")
    }

    def again(*_: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("coldpress.steps.measure_energy", again)
    assert predict(task_of(), Budget(macs="70%"), measurements=kept, **FAST).plan == seen.plan
    result = compress(task_of(), Budget(macs="50%"), measurements=kept, **FAST)
    assert result.plan == finished.plan
    assert torch.equal(outputs(result.model), outputs(finished.model))


@pytest.mark.parametrize("other", [{"seed": 1}, {"calibration": 40}, {"units": ("width",)}, {"threads": 2}])
def test_measurements_of_other_settings_are_not_taken_up(tmp_path: Path, other: dict[str, Any]) -> None:
    for settings in (FAST, FAST | other):
        predict(task_of(), Budget(macs="70%"), measurements=tmp_path / "measured", **settings)
    assert len(list((tmp_path / "measured").iterdir())) == 2


def test_measurements_of_another_network_are_not_taken_up(tmp_path: Path) -> None:
    for factory in (Projected, Pair):
        predict(task_of(factory), Budget(macs="70%"), measurements=tmp_path / "measured", **FAST)
    assert len(list((tmp_path / "measured").iterdir())) == 2


def test_a_folder_for_measurements_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="another --measurements"):
        predict(task_of(), Budget(macs="70%"), measurements=tmp_path / "file" / "measured", **FAST)


def test_what_exists_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    out = tmp_path / "run"
    compress(task_of(), Budget(macs="70%"), out=out, **FAST)
    before = (out / "plan.json").read_text()
    with pytest.raises(ArtifactError, match="--overwrite"):
        compress(task_of(), Budget(macs="40%"), out=out, **FAST)
    assert (out / "plan.json").read_text() == before
    compress(task_of(), Budget(macs="40%"), out=out, overwrite=True, **FAST)
    assert (out / "plan.json").read_text() != before


def test_without_train_data_nothing_is_trained_and_the_run_says_so(caplog: pytest.LogCaptureFixture) -> None:
    result = compress(task_of(train=None), Budget(macs="60%"), **{**FAST, "epochs": 2})
    assert "no fine-tuning" in caplog.text
    assert result.folder is None
    assert macs(result.model) <= 0.6 * macs(network())


def test_a_model_that_returns_a_tuple_is_loaded_into_its_own_factory(tmp_path: Path) -> None:
    result = compress(task_of(Pair), Budget(macs="60%"), out=tmp_path / "run", **{**FAST, "units": ("width", "rank")})
    assert torch.equal(outputs(load(tmp_path / "run", Pair)), outputs(result.model))


def test_an_accuracy_limit_alone_is_kept_on_validation() -> None:
    task = task_of()
    result = compress(task, max_accuracy_drop=12.0, objective="macs", **FAST)
    assert task.score(task.model, "validation") - task.score(result.model, "validation") <= 0.12
    assert macs(result.model) < macs(network())


def test_a_size_is_that_of_the_file(tmp_path: Path) -> None:
    whole = compress(task_of(), Budget(size="99%"), out=tmp_path / "most", **{**FAST, "units": ("width",)})
    assert whole.folder is not None
    half = compress(task_of(), Budget(size="60%"), out=tmp_path / "less", **{**FAST, "units": ("width",)})
    assert half.folder is not None
    sizes = [(folder / "model.onnx").stat().st_size for folder in (half.folder, whole.folder)]
    assert sizes[0] <= 0.62 * sizes[1]


def test_what_cannot_be_met_or_means_nothing_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="the smallest is"):
        compress(task_of(), Budget(macs="0.1%"), out=tmp_path / "run", **FAST)
    with pytest.raises(BudgetError, match="give a budget"):
        compress(task_of(), **FAST)
    with pytest.raises(TaskError, match="'epoch'"):
        compress(task_of(), Budget(macs="50%"), epoch=3)
    with pytest.raises(TaskError, match="no attention to teach"):
        compress(task_of(), Budget(macs="50%"), attention_weight=1.0, out=tmp_path / "run", **FAST)
    assert not (tmp_path / "run").exists()


def test_a_metric_of_ones_own_is_reported_by_its_name(tmp_path: Path) -> None:
    def agreement(logits: Tensor, labels: Tensor) -> float:
        return -5.0 + float((logits.argmax(1) == labels).float().mean())

    result = compress(task_of(metric=agreement), Budget(macs="60%"), out=tmp_path / "run", **FAST)
    found = result.metrics["metric"]
    assert (found["name"], found["split"]) == ("agreement", "test")
    assert found["original"] == pytest.approx(result.metrics["original"]["accuracy"] - 5.0)
    assert result.metrics["validation"]["metric"] == "agreement"
    assert "agreement (test)" in (tmp_path / "run" / "report.html").read_text()


def test_ignored_layers_belong_to_the_task() -> None:
    with pytest.raises(TaskError, match="ignored_layers belong to the task"):
        compress(task_of(), Budget(macs="60%"), ignored_layers=("stem.0",), **FAST)


def test_inputs_that_are_not_finite_are_named() -> None:
    model = network()
    poisoned = [(x.clone(), y) for x, y in batches(128, 1, model)]
    poisoned[0][0][:] = torch.nan
    with pytest.raises(TaskError, match="NaN"):
        compress(
            Task(model, images(1)[0], train=poisoned, validation=batches(64, 2, model)), Budget(macs="60%"), **FAST
        )


def test_single_channels_are_chosen_by_their_fisher_energy() -> None:
    task, settings = task_of(), FAST | {"units": ("width",), "energy": "fisher", "time_limit": 60.0}
    found = compress(task, Budget(macs="60%"), **settings)
    assert macs(found.model) <= 0.6 * macs(task.model)
    assert any(list(kept) != list(range(len(kept))) for kept in found.plan.kept.values())
    facts = found.metrics["single_channels"]
    assert facts["bound"] <= facts["energy"]
    assert facts["losses"][str(facts["alpha"])] == min(facts["losses"].values())
    again = compress(task, Budget(macs="60%"), **settings)
    assert again.plan == found.plan


@pytest.mark.parametrize("wrong", [{"units": ("width", "rank")}, {"choices": ("stem.0:width=4/8",)}])
def test_single_channels_are_of_widths_and_by_budget(wrong: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match="single channels"):
        compress(task_of(), Budget(macs="60%"), **(FAST | {"units": ("width",), "energy": "fisher"} | wrong))


def test_a_plan_by_a_mock_qpu_is_labelled_in_what_is_told() -> None:
    settings = FAST | {"units": ("width",), "rounds": 0, "solver": "mock-pegasus:9", "time_limit": 30.0}
    preview = predict(task_of(Pair), Budget(macs="60%"), **settings)
    told = preview.facts["solver"]
    assert MOCK in told["name"]
    assert MOCK in told["sampler"]
    assert told["qubits"] > told["variables"]
    assert preview.facts["predicted"]["macs"] <= 0.6 * macs(network(Pair))


def test_what_terms_between_units_are_worth_is_told() -> None:
    settings = FAST | {"units": ("width",), "rounds": 0}
    preview = predict(task_of(Pair), Budget(macs="60%"), **settings)
    losses = preview.facts["predicted"]["measured_kl_by_alpha"]
    assert "0" in losses
    assert preview.facts["predicted"]["measured_kl"] == pytest.approx(min(losses.values()))
    alone = predict(task_of(Pair), Budget(macs="60%"), **settings, energy="separable")
    assert alone.facts["predicted"]["measured_kl_by_alpha"] == {}
    assert alone.facts["predicted"]["measured_kl"] == pytest.approx(losses["0"])


def test_a_qpu_without_a_token_is_refused_before_time_is_spent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dwave.conf").write_text("")
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(tmp_path / "dwave.conf"))
    monkeypatch.delenv("DWAVE_API_TOKEN", raising=False)
    with pytest.raises(HardwareError, match="no token"):
        predict(task_of(Pair), Budget(macs="60%"), **(FAST | {"solver": "dwave-qpu"}))
