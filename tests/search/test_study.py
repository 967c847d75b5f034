"""A shared study: every slot once, the dead retried, stopped and taken up, and what is not the same refused."""

from __future__ import annotations

import sys
from pathlib import Path

import optuna
import pytest
from studies import PROBLEM, QUICK, loss, start

from coldpress.errors import SearchError
from coldpress.recipe import Recipe
from coldpress.search.objective import SearchSettings
from coldpress.search.samplers import SAMPLERS, sampler
from coldpress.search.study import Search

optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_a_study_is_taken_up_until_all_of_its_trials_are_done(tmp_path: Path) -> None:
    search = start(tmp_path / "j.log", 4)
    assert search.run(loss) == 4
    again = start(tmp_path / "j.log", 10)
    assert again.run(loss) == 6
    first = [trial.params for trial in again.study.trials[:4]]
    assert all(trial.params not in first for trial in again.study.trials[4:])
    assert again.best()[0].value == min(trial.value for trial in again.study.trials)


def test_a_trial_that_fails_is_named_and_several_in_a_row_end_the_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search = start(tmp_path / "j.log", 9)

    def fails(trial: optuna.Trial) -> tuple[float, ...]:
        if trial.number % 4 or trial.number > 4:
            raise RuntimeError("out of tensors")
        return (1.0,)

    with pytest.raises(SearchError, match=r"3 trials failed .* out of tensors"):
        search.run(fails)
    assert search.study.trials[1].user_attrs["error"] == "out of tensors"


def test_a_limit_decides_before_the_value(tmp_path: Path) -> None:
    search = start(tmp_path / "j.log", 6)

    def tight(trial: optuna.Trial) -> tuple[float, ...]:
        trial.set_constraint("size", 1.0 if trial.number < 5 else -1.0)
        trial.set_user_attr("choices", {})
        return (float(trial.number),)

    search.run(tight)
    assert [trial.number for trial in search.best(3)] == [5]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"images": 64}, "images 512, not 64"), ({"sampler": "tpe"}, "sampler 'random', not 'tpe'")],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    start(tmp_path / "j.log", 1)
    with pytest.raises(SearchError, match=says):
        start(tmp_path / "j.log", 1, **change)


def test_other_studies_models_versions_and_storages_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "j.log"
    search = start(place, 1)
    with pytest.raises(SearchError, match="another model"):
        Search.create(str(place), "one", Recipe(), QUICK, PROBLEM, "other key")
    with pytest.raises(SearchError, match="model's weights or the data"):
        search.check_key("other key")
    with pytest.raises(SearchError, match=r"no study is called 'two' in .*there are: one"):
        Search.join(str(place), "two")
    with pytest.raises(SearchError, match="there is no storage"):
        Search.join(str(tmp_path / "none.log"), "one")
    monkeypatch.setattr("coldpress.search.study.__version__", "99")
    with pytest.raises(SearchError, match=r"started by coldpress .*, this is 99"):
        Search.join(str(place), "one")
    (tmp_path / "text.log").write_text("not a journal\nat all\n")
    with pytest.raises(SearchError, match="not a journal of Optuna"):
        Search.create(str(tmp_path / "text.log"), "one", Recipe(), QUICK, PROBLEM, "key")
    with pytest.raises(SearchError, match=r"cannot be used .*whose driver is installed"):
        Search.create("nosuch://x", "one", Recipe(), QUICK, PROBLEM, "key")
    with pytest.raises(SearchError, match="path of a file"):
        Search.create(str(tmp_path), "one", Recipe(), QUICK, PROBLEM, "key")
    plain = optuna.create_study(storage=f"sqlite:///{tmp_path}/s.db", study_name="one")
    plain.optimize(lambda trial: trial.suggest_float("x", 0, 1), 1)
    with pytest.raises(SearchError, match="is not coldpress'"):
        Search.create(f"sqlite:///{tmp_path}/s.db", "one", Recipe(), QUICK, PROBLEM, "key")


@pytest.mark.parametrize("name", [*SAMPLERS, "optuna.samplers.QMCSampler"])
def test_samplers_by_name(name: str, tmp_path: Path) -> None:
    if name in ("cmaes", "gp"):
        pytest.importorskip("cmaes" if name == "cmaes" else "torch")
    study = optuna.create_study(sampler=sampler(name, 1))
    if name == "legacy":
        study.optimize(lambda trial: trial.suggest_categorical("a", [0, 1]), 3)
    else:
        study.optimize(lambda trial: loss(trial)[0], 3)
    assert len(study.trials) == 3


@pytest.mark.parametrize("name", ["nosuch", "optuna.samplers.Nosuch", "no.such.Thing", "pathlib.Path", "os.sep"])
def test_what_is_no_sampler_is_refused(name: str) -> None:
    with pytest.raises(SearchError, match=r"no sampler|no Optuna sampler|not a class"):
        sampler(name, 0)


@pytest.mark.parametrize("name", ["optuna.samplers.GridSampler", "optuna.samplers.PartialFixedSampler"])
def test_a_sampler_that_wants_more_than_a_seed_is_refused(name: str) -> None:
    with pytest.raises(SearchError, match=r"cannot be made with a seed alone \(.*required"):
        SearchSettings(sampler=name)


def test_a_sampler_whose_package_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(SearchError, match=r"cmaes needs a package that is not installed"):
        SearchSettings(sampler="cmaes")


def test_workers_that_join_do_not_draw_the_same_whatever_their_processes_are_called(tmp_path: Path) -> None:
    start(tmp_path / "j.log", 2)
    drawn = []
    for search in (Search.join(str(tmp_path / "j.log"), "one") for _ in range(2)):
        trial = search.slots.claim()
        assert trial is not None
        drawn.append([trial.suggest_int(f"u{i}", 0, 10**9) for i in range(2)])
    assert drawn[0] != drawn[1]


def test_the_same_plan_is_among_the_best_once(tmp_path: Path) -> None:
    search = start(tmp_path / "j.log", 4, objectives=("kl", "size"))

    def twice(trial: optuna.Trial) -> tuple[float, ...]:
        half = trial.number // 2
        trial.set_user_attr("choices", {"u0": str(half)})
        return (float(half), float(-half))

    search.run(twice)
    assert [trial.number for trial in search.best()] == [0, 2]


def test_workers_do_not_draw_the_same() -> None:
    drawn = []
    for number in (0, 1):
        study = optuna.create_study(sampler=sampler("random", 0, number))
        study.optimize(lambda trial: loss(trial)[0], 3)
        drawn.append([trial.params for trial in study.trials])
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    "change",
    [
        {"objectives": ()},
        {"objectives": ("speed",)},
        {"weights": (0, 0, 0)},
        {"norms": (0, 1)},
        {"images": 1},
        {"rungs": 0},
        {"options": 1},
        {"seed": -1},
        {"sampler": "nosuch"},
        {"sampler": "legacy", "objectives": ("kl", "size")},
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(SearchError, match=next(iter(change))):
        SearchSettings(**change)  # type: ignore[arg-type]
