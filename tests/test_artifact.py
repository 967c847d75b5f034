"""Saved is loaded; what is damaged, pickled or not ours is refused; what was there is not lost."""

from __future__ import annotations

import copy
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from coldpress.artifact import check_output, load, put_in_place, read_metrics, read_plan, save_model
from coldpress.errors import ArtifactError, ColdpressError
from coldpress.logits import FirstOutput
from coldpress.network import first_tensor
from coldpress.plan import Plan
from coldpress.structures import half_width, structural_plan
from coldpress.surgery.apply import apply_plan
from tiny import NETWORKS, build, inputs_of, space_of


def written(name: str, folder: Path) -> tuple[nn.Module, Plan]:
    """The artifact's files that loading needs, of a network at half its channels."""
    model, inputs = build(name), inputs_of(name)
    space = space_of(model, inputs)
    ranks = {u.name: u.options[-1].label for u in space.units if u.kind == "rank"}
    student, plan = apply_plan(model, space, structural_plan(space, half_width(space) | ranks))
    folder.mkdir(parents=True, exist_ok=True)
    save_model(student, folder, inputs)
    (folder / "plan.json").write_text(plan.to_json())
    return student.eval(), plan


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "run"
    written("concatenation", folder)
    return folder


def copied(artifact: Path, to: Path) -> Path:
    to.mkdir()
    for file in artifact.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def outputs(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        return first_tensor(model(*inputs))


@pytest.mark.parametrize("name", NETWORKS)
def test_saved_is_loaded(name: str, tmp_path: Path) -> None:
    student, plan = written(name, tmp_path / "run")
    inputs = inputs_of(name, count=3, seed=9)
    fresh = load(tmp_path / "run", lambda: build(name, seed=7))
    assert torch.equal(outputs(fresh, inputs), outputs(student, inputs))
    assert not fresh.training
    program = load(tmp_path / "run")
    torch.testing.assert_close(outputs(program, inputs), outputs(student, inputs), atol=1e-5, rtol=1e-5)
    assert read_plan(tmp_path / "run") == plan
    assert torch.equal(outputs(copy.deepcopy(program).eval(), inputs), outputs(program.train(), inputs))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_network_with_a_part_called_model_is_loaded_wrapped_or_not(wrapped: bool, tmp_path: Path) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = build("tuple")

        def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            both = self.model(x)
            return both if wrapped else both[0]

    inputs, holder = inputs_of("tuple"), Holder()
    model = FirstOutput(holder) if wrapped else holder
    space = space_of(model, inputs, "width")
    student, plan = apply_plan(model, space, structural_plan(space, half_width(space)))
    save_model(student, tmp_path, inputs)
    (tmp_path / "plan.json").write_text(plan.to_json())
    assert torch.equal(outputs(load(tmp_path, Holder), inputs), outputs(student.eval(), inputs))


def test_the_factory_must_build_the_same_network(artifact: Path) -> None:
    with pytest.raises(ColdpressError, match="another model"):
        load(artifact, lambda: build("flatten"))
    with pytest.raises(ArtifactError, match="not a torch"):
        load(artifact, lambda: 3)


def test_what_is_missing_is_named(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no artifact"):
        load(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="holds no plan"):
        load(tmp_path, lambda: build("concatenation"))
    with pytest.raises(ArtifactError, match="give load"):
        load(tmp_path)
    with pytest.raises(ArtifactError, match=r"metrics\.json cannot be read"):
        read_metrics(artifact)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_truncated_files_are_refused(artifact: Path, tmp_path: Path, keep: float) -> None:
    for file, factory in (("model.safetensors", lambda: build("concatenation")), ("model.pt2", None)):
        folder = copied(artifact, tmp_path / file)
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[: int(keep * len(whole) if keep < 1 else keep)])
        with pytest.raises(ArtifactError, match=r"damaged|pickled"):
            load(folder, factory)
    folder = copied(artifact, tmp_path / "plan")
    (folder / "plan.json").write_text((folder / "plan.json").read_text()[:-30])
    with pytest.raises(ColdpressError, match="not a coldpress plan"):
        load(folder, lambda: build("concatenation"))


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return Path.write_text, (Path("unpickled"), "")


def evil() -> bytes:
    return pickle.dumps(Evil(), protocol=2)


def rewritten(change: Callable[[dict[str, bytes]], None]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        change(files)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)

    return rewrite


def use_pickle(files: dict[str, bytes]) -> None:
    name = "model/data/weights/model_weights_config.json"
    config = json.loads(files[name])
    entry = next(iter(config["config"].values()))
    entry["use_pickle"] = True
    files[f"model/data/weights/{entry['path_name']}"] = evil()
    files[name] = json.dumps(config, separators=(",", ":")).encode()


def legacy(files: dict[str, bytes]) -> None:
    for name in list(files):
        files.pop(name)
    files["version"] = b"8.1"
    files["serialized_exported_program.json"] = b"{}"
    for part in ("state_dict", "constants", "example_inputs"):
        files[f"serialized_{part}.pt"] = evil()


@pytest.mark.parametrize(
    "change",
    [
        use_pickle,
        legacy,
        lambda files: files.update({"model/data/sample_inputs/model.pt": evil()}),
        lambda files: files.update({"model/data/weights/model.pt": evil()}),
        lambda files: files.update({"model/data/constants/model.pt": evil()}),
        lambda files: files.update({"model/data/constants/custom_obj_0": evil()}),
        lambda files: files.update({"model/data/aotinductor/model/code.so": b"code"}),
        lambda files: files.update({"model/models/other.json": b"{}"}),
    ],
)
def test_pickled_programs_are_refused_and_nothing_runs(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, bytes]], None]
) -> None:
    folder = copied(artifact, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    rewritten(change)(folder / "model.pt2")
    with pytest.raises(ArtifactError, match=r"pickle|damaged"):
        load(folder)
    assert not (tmp_path / "unpickled").exists()


def test_a_folder_that_exists_is_refused_unless_it_may_be_replaced(artifact: Path, tmp_path: Path) -> None:
    folder = copied(artifact, tmp_path / "run")
    with pytest.raises(ArtifactError, match="--overwrite"):
        check_output(folder, overwrite=False)
    check_output(folder, overwrite=True)
    check_output(tmp_path / "deep" / "run", overwrite=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="is a file"):
        check_output(tmp_path / "file", overwrite=True)
    with pytest.raises(ArtifactError, match="cannot write"):
        check_output(tmp_path / "file" / "run", overwrite=False)


def test_a_folder_that_is_no_artifact_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("irreplaceable")
    with pytest.raises(ArtifactError, match="not an artifact"):
        check_output(tmp_path / "photos", overwrite=True)
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty", overwrite=True)


@pytest.mark.parametrize("out", [".", "..", "/"])
def test_a_folder_without_a_name_is_refused(out: str) -> None:
    with pytest.raises(ArtifactError):
        check_output(Path(out), overwrite=True)


def test_put_in_place_replaces_whole_folders(tmp_path: Path) -> None:
    built, folder = tmp_path / "built", tmp_path / "run"
    for text in ("first", "second"):
        built.mkdir()
        (built / text).write_text(text)
        put_in_place(built, folder)
        assert [file.name for file in folder.iterdir()] == [text]
        assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_was_there_stays_when_the_new_one_cannot_be_moved(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "plan.json").write_text("old")
    with pytest.raises(ArtifactError):
        put_in_place(tmp_path / "missing", folder)
    assert (folder / "plan.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
