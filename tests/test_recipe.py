"""A recipe is the same as flags, as YAML and as an object; what it does not know it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldpress.errors import ColdpressError, TaskError
from coldpress.recipe import ENERGIES, KINDS, Recipe
from coldpress.steps import training_settings

texts = st.none() | st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=20)
recipes = st.builds(
    Recipe,
    model=texts,
    data_dir=texts,
    budget=st.sampled_from([(), ("macs=47%",), ("latency=25%", "size=2MB")]),
    max_accuracy_drop=st.none() | st.floats(0, 50),
    objective=st.sampled_from(["latency", "size", "macs"]),
    energy=st.sampled_from(ENERGIES),
    units=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    epochs=st.integers(0, 20),
    lr=st.floats(1e-8, 10),
    time_limit=st.floats(1e-3, 1e4),
    seed=st.integers(0, 2**31),
    ignored_layers=st.lists(st.text("abc.01", min_size=1), max_size=3),
)


@given(recipe=recipes)
@settings(max_examples=60, deadline=None)
def test_yaml_is_read_back_as_it_was(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    again = Recipe.read(path)
    assert again == recipe
    assert again.key() == recipe.key()


@pytest.mark.parametrize(
    ("rank", "wanted"), [("20", 20), ("20.0", 20), (20.0, 20), ("energy:0.9", "energy:0.9"), ("evbmf", "evbmf")]
)
def test_a_rank_is_a_number_or_a_rule(rank: Any, wanted: int | str, tmp_path: Path) -> None:
    recipe = Recipe(rank=rank)
    assert recipe.rank == wanted
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert Recipe.read(tmp_path / "recipe.yaml") == recipe


def test_a_vocabulary_is_decided_where_bytes_count_or_a_plan_names_it() -> None:
    assert "vocabulary" in Recipe(budget=("size=50%",)).kinds()
    assert "vocabulary" not in Recipe(budget=("latency=50%",)).kinds()
    assert "vocabulary" in Recipe(budget=("latency=50%",), choices=("table:vocabulary=512/1000",)).kinds()
    with pytest.raises(TaskError, match=r"nothing is left to decide.*vocabulary \(size\)"):
        Recipe(budget=("latency=50%",), units=("vocabulary",)).kinds()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "no 'epoch'; it has: .*epochs"),
        ({"device": "toaster"}, "no device is called"),
        ({"memory": "nonsense"}, "give bytes, 512MB say"),
        ({"units": ["width", "depht"]}, "width, rank, bits, depth"),
        ({"units": []}, "units"),
        ({"energy": "fisher2"}, "curvature or separable"),
        ({"int8": "weights"}, "auto, static, dynamic, both"),
        ({"objective": "speed"}, "latency, size or macs"),
        ({"epochs": -1}, "0 or more"),
        ({"epochs": "many"}, "epochs is 'many'; it must be a number"),
        ({"epochs": 2.5}, "whole number"),
        ({"seed": -1}, "seed is -1"),
        ({"lr": 0}, "lr is 0"),
        ({"schedule": "cosine"}, "schedule is 'cosine'; allowed: one_cycle or constant"),
        ({"factors": "ternary"}, "LEFT,RIGHT"),
        ({"rank": 0}, "rank is 0; allowed: 1 or more"),
        ({"rank": "-3"}, r"rank is '-3'; give a whole number, energy:SHARE .* or evbmf"),
        ({"rank": "energy:1.5"}, "above 0 and at most 1"),
        ({"rank": 2.5}, "rank is 2.5; it must be a whole number"),
        ({"entanglement": 2}, "from 0 to 1, a probability"),
        ({"stages": 0}, "stages is 0"),
        ({"eca_kernel": 4}, "odd, or 0 for none"),
        ({"eca_kernel": -1}, "odd, or 0 for none"),
        ({"temperature": 0}, "above 0"),
        ({"distil_weight": 1.5}, "between 0"),
        ({"refit_plans": -1}, "refit_plans is -1"),
        ({"calibration": 1}, "8 or more"),
        ({"max_accuracy_drop": -0.5}, "0 points or more"),
        ({"time_limit": 0}, "above 0"),
        ({"threads": 0}, "1 or more"),
        ({"budget": ["latncy=25%"]}, "latncy"),
        ({"budget": None}, "recipe cannot be used"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ColdpressError, match=message):
        Recipe().changed(values)


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "just words", "a: [1", "1: 2\n"])
def test_files_that_are_no_recipes_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(TaskError):
        Recipe.read(path)
    with pytest.raises(TaskError, match="cannot read"):
        Recipe.read(tmp_path / "nowhere.yaml")


def test_a_single_text_is_a_list_of_one() -> None:
    assert Recipe(budget="macs=50%", units="width").changed({}) == Recipe(budget=("macs=50%",), units=("width",))


def test_bits_are_decided_only_where_size_or_latency_count() -> None:
    assert "bits" not in Recipe(budget=("macs=50%",)).kinds()
    assert "bits" in Recipe(budget=("macs=50%", "size=40%")).kinds()
    assert "bits" in Recipe(max_accuracy_drop=1.0).kinds()
    assert "bits" not in Recipe(max_accuracy_drop=1.0, objective="macs").kinds()
    assert Recipe(budget=("size=40%",), units=("width",)).kinds() == ("width",)


def test_any_change_starts_another_run() -> None:
    keys = {recipe.key() for recipe in (Recipe(), Recipe(seed=1), Recipe(budget=("macs=50%",)), Recipe(epochs=4))}
    assert len(keys) == 4


def test_runs_from_before_a_setting_came_go_on_where_it_is_at_its_default() -> None:
    assert Recipe().key() == "77333a04b697f60f"
    assert Recipe(seed=1, budget=("macs=50%",)).key() == "b151759fb04562a9"
    assert len({recipe.key() for recipe in (Recipe(), Recipe(schedule="constant"), Recipe(factors="int8,float"))}) == 3


def test_the_schedule_reaches_the_training() -> None:
    assert training_settings(Recipe()).schedule == "one_cycle"
    assert training_settings(Recipe(schedule="constant")).schedule == "constant"


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("lr: 1e-3\nepochs: 5.0\nmax_accuracy_drop: 1\n")
    recipe = Recipe.read(tmp_path / "recipe.yaml")
    assert (recipe.lr, recipe.epochs, recipe.max_accuracy_drop) == (1e-3, 5, 1.0)
    assert recipe.key() == Recipe(lr=1e-3, epochs=5, max_accuracy_drop=1.0).key()


def test_more_memory_goes_on_with_a_stopped_run() -> None:
    given = [Recipe(memory=memory).key() for memory in ("64MB", "128MB")]
    assert given[0] == given[1] != Recipe().key()
    fisher = [Recipe(memory=memory, energy="fisher").key() for memory in ("64MB", "128MB")]
    assert fisher[0] != fisher[1]
