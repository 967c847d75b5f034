"""QIANets on a few random images: every row is there, goes on after a stop, and is told as it was measured."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from typer.testing import CliRunner

from coldpress import zoo
from coldpress.cli import app
from coldpress.commands.reproduce_qianets import HEADS, all_cells, beside, markdown
from coldpress.data import TensorData
from coldpress.errors import TaskError
from coldpress.evaluate import predictor
from coldpress.papers.qianets import QIANets, _sized
from coldpress.papers.qianets_case import Case
from coldpress.papers.qianets_search import searched
from coldpress.papers.qianets_table import (
    AT_RATIO,
    BASELINE,
    BY_ATTENTION,
    BY_FISHER,
    CONTROL,
    CONTROL_DISTILLED,
    CONTROL_SEARCHED,
    FURTHER,
    HELD_OUT,
    KERNELS,
    LEGACY,
    MAGNITUDE,
    METHODS,
    OTHER_READING,
    OURS,
    PLAIN,
    PUBLISHED,
    SCALES,
    SEARCHED,
    STRUCTURE,
    WEIGHTS,
    WEIGHTS_MAGNITUDE,
    Ratios,
    Row,
    Scale,
)
from coldpress.recovery import distil

QUICK = replace(SCALES["tiny"], trials=1, calibration=16)


def images(count: int, seed: int) -> TensorData:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    inputs = torch.randint(0, 80, (count, 3, 32, 32), generator=generator) + 40 * labels.view(-1, 1, 1, 1)
    return TensorData(inputs.to(torch.uint8), labels, ("a", "b", "c", "d"))


def data() -> zoo.Splits:
    return zoo.Splits(images(80, 0), None, images(20, 1))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """All rows but ours, which an earlier run is said to have made."""
    earlier = [Row("resnet18", method, 0, note="skipped: not asked for") for method in (OURS, STRUCTURE, FURTHER)]
    return list(QIANets(data(), QUICK, ["resnet18"], tmp_path_factory.mktemp("qianets"), earlier).stages())


def test_every_method_has_its_row(rows: list[Row]) -> None:
    assert [row.method for row in rows] == list(METHODS)
    assert all(row.metrics for row in rows if row.method not in (OURS, STRUCTURE, FURTHER))
    by = {row.method: row.metrics["compressed"] for row in rows if row.metrics}
    whole = by[BASELINE]
    for method in (
        CONTROL,
        CONTROL_SEARCHED,
        CONTROL_DISTILLED,
        LEGACY,
        OTHER_READING,
    ):  # dense again: nothing is saved
        assert by[method]["parameters"] == whole["parameters"]
        assert by[method]["file_bytes"] == pytest.approx(whole["file_bytes"], rel=1e-3)
    for method in (SEARCHED, AT_RATIO):
        assert by[method]["file_bytes"] < 0.9 * whole["file_bytes"]
        assert by[method]["macs"] < whole["macs"]
    for method in (
        PLAIN,
        MAGNITUDE,
        BY_ATTENTION,
        BY_FISHER,
    ):  # as many channels as with attention, whose weights are few
        assert by[method]["parameters"] == pytest.approx(by[AT_RATIO]["parameters"], rel=0.01)
    for method in (WEIGHTS, WEIGHTS_MAGNITUDE):
        found = next(row for row in rows if row.method == method)
        assert by[method]["sparsity"] == pytest.approx(found.settings["sparsity"], abs=0.01)
        assert (found.settings["dead_channels"] > 0) == (by[method]["macs"] < whole["macs"])
    ratio = whole["parameters"] / by[AT_RATIO]["parameters"]
    assert PUBLISHED["resnet18"].smaller <= ratio < 1.25 * PUBLISHED["resnet18"].smaller
    assert len(rows[1].curve) == 1 + QUICK.final_epochs


def test_a_run_goes_on_with_the_rows_that_are_missing(rows: list[Row], tmp_path: Path) -> None:
    read = [Row(**asdict(row)) for row in rows]
    again = list(QIANets(data(), QUICK, ["resnet18"], tmp_path / "none", read).stages())
    assert [row.name for row in again] == [row.name for row in rows]
    assert not (tmp_path / "none").exists()  # nothing was trained


def test_the_table_tells_means_and_what_was_published(rows: list[Row]) -> None:
    lines = all_cells(rows)
    assert len(lines) == 1 + len(METHODS)
    assert all(len(line) == len(HEADS) for line in lines)
    assert lines[0][1] == "87.11 %"
    assert lines[-1][-1] == "skipped: not asked for"
    other = [replace(row, seed=1) for row in rows]
    assert "(" in all_cells([*rows, *other])[1][1]
    assert markdown(rows).count("resnet18") == len(lines) + 1
    (line,) = (line for line in lines if line[0] == f"resnet18: {AT_RATIO}")
    assert [cell.count(" to ") for cell in line[1:6]] == [1] * 5  # of a single seed: intervals
    ((_, theirs, corrected, ours),) = beside(rows)
    assert theirs == "6.00, 1.57 x, 1.60 x"
    assert corrected.count(" x") == 2
    assert ours == ""
    gone = [replace(row, metrics={}) if row.method == AT_RATIO else row for row in other]
    assert beside([*rows, *gone])[0][2] == f"{corrected} (1 of 2 seeds)"
    assert beside([*rows, *other])[0][2] == corrected
    assert any(line[-1] == "1 of 2 seeds" for line in all_cells([*rows, *gone]))


def test_every_row_is_compared_with_its_own_control(rows: list[Row]) -> None:
    by = {row.method: row for row in rows if row.metrics}
    accuracy = {method: row.metrics["compressed"]["accuracy"] for method, row in by.items()}
    for method, row in by.items():
        if method in (BASELINE, CONTROL):
            assert "control" not in row.metrics
            continue
        control = CONTROL_SEARCHED if method == SEARCHED else CONTROL
        found = row.metrics["control"]
        assert found["difference"] == pytest.approx(accuracy[method] - accuracy[control])
        assert found["difference_interval"][0] < found["difference"] < found["difference_interval"][1]
    for row in by.values():
        low, high = row.metrics["intervals"]["latency_ms"]
        assert low <= row.metrics["compressed"]["latency_ms"]["median"] <= high


def test_our_rows_are_held_against_the_distilled_control(rows: list[Row]) -> None:
    """Another's figures stand for ours."""
    by = {row.method: row for row in rows}
    control = replace(by[CONTROL_DISTILLED], metrics=by[AT_RATIO].metrics)
    for method in (OURS, STRUCTURE, FURTHER):
        lines = all_cells([control, by[CONTROL], replace(by[AT_RATIO], method=method)])
        (line,) = (line for line in lines if line[0] == f"resnet18: {method}")
        assert line[3].startswith("0.00")


def test_rows_are_trained_by_one_recipe_but_for_what_the_search_found(rows: list[Row]) -> None:
    own = {row.method for row in rows if "lr" in row.settings}
    assert own == {SEARCHED, CONTROL_SEARCHED}
    assert all(len(row.curve) >= 1 for row in rows if row.metrics)


def test_a_stopped_search_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    asked: list[dict[str, object]] = []

    def curve(settings: Mapping[str, Any]) -> list[float | None]:
        asked.append(dict(settings))
        if len(asked) == 2 and stops:
            raise KeyboardInterrupt
        if 0.5 < settings["sparsity"] < 0.55:
            raise TaskError("it cannot be trained")
        return [0.1, settings["sparsity"]]

    def search(path: Path) -> dict[str, Any]:
        return searched(path, "resnet18", 3, 0, "key", curve, quiet)

    stops = False
    whole = search(tmp_path / "whole.log")
    expected, stops = list(asked), True
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "stopped.log")
    assert search(tmp_path / "stopped.log") == whole
    assert [asked[0], *asked[2:]] == expected
    assert len({str(settings) for settings in expected}) == 5  # two of them cannot be trained


def test_a_search_without_a_trial_that_can_be_trained_says_so(tmp_path: Path) -> None:
    def fails(settings: Mapping[str, Any]) -> list[float | None]:
        raise TaskError("the training loss is not finite")

    with pytest.raises(TaskError, match="none of the 3 trials of resnet18 could be trained"):
        searched(tmp_path / "study.log", "resnet18", 1, 0, "key", fails, quiet)


def test_a_study_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.log"

    def curve(settings: Mapping[str, Any]) -> list[float | None]:
        return [settings["sparsity"]]

    found = searched(path, "resnet18", 1, 0, "these weights", curve, quiet)
    assert searched(path, "resnet18", 1, 0, "these weights", curve, quiet) == found
    for seed, key in ((1, "these weights"), (0, "others")):
        with pytest.raises(TaskError, match="of another baseline, seed, data or training: choose another --out"):
            searched(path, "resnet18", 1, seed, key, curve, quiet)
    study = study_at(path, "of somebody")
    study.tell(study.ask(), 0.5)
    with pytest.raises(TaskError, match="of another baseline"):
        searched(path, "of somebody", 1, 0, "these weights", curve, quiet)


def test_settings_are_searched_in_the_published_ranges(tmp_path: Path) -> None:
    searched(tmp_path / "study.log", "resnet18", 1, 0, "key", lambda settings: [0.5], quiet)
    (trial,) = study_at(tmp_path / "study.log", "resnet18").trials
    ranges = trial.distributions
    assert (ranges["sparsity"].low, ranges["sparsity"].high) == (0.1, 0.9)
    assert (ranges["rank"].low, ranges["rank"].high) == (5, 50)
    assert ranges["kernel"].choices == KERNELS
    assert set(ranges) == {"sparsity", "rank", "kernel", "batch_size", "lr"}


def study_at(path: Path, name: str) -> optuna.Study:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    return optuna.create_study(storage=storage, study_name=name, load_if_exists=True)


def quiet(done: int, total: int) -> None:
    """Nobody listens."""


def test_the_scale_of_the_paper_is_what_the_paper_says(tmp_path: Path) -> None:
    paper = SCALES["paper"]
    assert paper == Scale(
        pixels=224, images=None, epochs=50, trials=10, trial_epochs=10, final_epochs=50, batch_size=128, seeds=(0,),
        calibration=paper.calibration, optimizer="adam", schedule="constant",
    )  # fmt: skip
    assert HELD_OUT == 0.2
    settings = Case("resnet18", 0, data(), paper, tmp_path, say).settings
    assert (settings.lr, settings.weight_decay, settings.epochs) == (1e-3, 1e-4, 50)


def test_images_are_resized_to_values_from_minus_one_to_one() -> None:
    inputs = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    inputs[1] = 255
    ((read, _),) = _sized(TensorData(inputs, torch.tensor([0, 1])), 48).batches(2)
    (read,) = read if isinstance(read, tuple | list) else (read,)
    torch.testing.assert_close(read[0], -torch.ones(3, 48, 48))
    torch.testing.assert_close(read[1], torch.ones(3, 48, 48))
    assert _sized(None, 48) is None


def test_our_plan_is_made_and_measured(tmp_path: Path) -> None:
    """At a lenient ratio: a plan of so few images is no figure."""
    case = Case("resnet18", 0, QIANets(data(), QUICK, ["resnet18"], tmp_path).splits(0), QUICK, tmp_path, say)
    control = case.row(CONTROL_DISTILLED)
    row = case._ours(OURS, Ratios(1.02, 1.5, ("bits",)))
    assert not row.note
    before, after = row.metrics["original"], row.metrics["compressed"]
    assert after["file_bytes"] <= before["file_bytes"] / 1.5
    assert len(row.curve) == 1 + QUICK.final_epochs
    assert row.metrics["control"]["difference"] == pytest.approx(
        after["accuracy"] - control.metrics["compressed"]["accuracy"]
    )
    assert row.metrics["intervals"]["faster"][0] <= row.metrics["intervals"]["faster"][1]
    student = copy.deepcopy(case.task.model)  # what the control is: the baseline distilled as compress does
    distil(student, case.task.model, case.task, case.settings, temperature=2.0, weight=0.9)
    with np.load(tmp_path / "predictions-2.npz") as kept:
        assert (case.task.evaluate(predictor(student), "test").predictions == kept["predictions"]).all()
    with pytest.raises(TaskError, match="begun with other data"):
        Case("resnet18", 0, zoo.Splits(images(60, 5), images(20, 6), images(20, 1)), QUICK, tmp_path, say).row(BASELINE)


def say(what: str, done: int, total: int) -> None:
    """Nobody listens."""


def test_images_are_as_many_as_asked_for_and_a_fifth_is_held_out(tmp_path: Path) -> None:
    splits = QIANets(data(), replace(QUICK, images=70), ["resnet18", "resnet18"], tmp_path).splits(0)
    assert (len(splits.train), len(splits.validation)) == (56, 14)  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="too few"):
        replace(QUICK, images=5)


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="none of the networks"):
        QIANets(data(), QUICK, ["vgg16"], tmp_path)
    with pytest.raises(TaskError, match="needs images"):
        QIANets(zoo.Splits([], None, []), QUICK, ["resnet18"], tmp_path)
    runner = CliRunner()
    found = runner.invoke(app, ["reproduce", "qianets", "--scale", "huge", "--out", str(tmp_path / "out")])
    assert found.exit_code == 2
    assert "tiny, short, paper" in found.output
    help_text = runner.invoke(app, ["reproduce", "qianets", "--help"]).output
    assert "densenet121" in help_text
