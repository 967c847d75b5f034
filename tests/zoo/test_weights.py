"""Weights files: what loads, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from coldpress.errors import CheckpointError
from coldpress.zoo import load_weights


def net(outputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, outputs))


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values())
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("suffix", ["th", "pt", "pth"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict"])
def test_state_dicts_load(tmp_path: Path, suffix: str, prefix: str, wrapper: str | None) -> None:
    source, target = net(), net()
    content: dict[str, Any] = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    torch.save({wrapper: content, "epoch": 3} if wrapper else content, tmp_path / f"w.{suffix}")
    load_weights(target, tmp_path / f"w.{suffix}")
    assert same(source, target)


def test_half_precision_is_upcast(tmp_path: Path) -> None:
    source, target = net().half().float(), net()
    half = {name: t.half() if t.is_floating_point() else t for name, t in source.state_dict().items()}
    save_file(half, tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert same(source, target)


def test_counters_of_batchnorm_may_be_missing(tmp_path: Path) -> None:
    source, target = net(), net()
    torch.save({n: t for n, t in source.state_dict().items() if "tracked" not in n}, tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert same(source, target)


@pytest.mark.parametrize("keep", [1, 2, 100, 500])
def test_truncated_files_of_the_old_format_are_refused(tmp_path: Path, keep: int) -> None:
    torch.save({"state_dict": net().state_dict()}, tmp_path / "w.th", _use_new_zipfile_serialization=False)
    (tmp_path / "w.th").write_bytes((tmp_path / "w.th").read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"w\.th"):
        load_weights(net(), tmp_path / "w.th")


class Payload:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("payload-ran"),))


@pytest.mark.parametrize("content", [net(), {"state_dict": net().state_dict(), "args": Payload()}])
def test_pickled_objects_are_refused_and_do_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="pickled Python objects"):
        load_weights(net(), tmp_path / "w.pt")
    assert not (tmp_path / "payload-ran").exists()


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.98])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"w.{suffix}"
    if suffix == "pt":
        torch.save(net().state_dict(), path)
    else:
        save_file(net().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(CheckpointError, match=r"damaged|truncated"):
        load_weights(net(), path)


def spoiled(change: dict[str, Tensor | None]) -> dict[str, Tensor]:
    weights = {**net().state_dict(), **change}
    return {name: tensor for name, tensor in weights.items() if tensor is not None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"3.weight": torch.zeros(5, 8)}, r"3\.weight is \(5, 8\), the model's is \(3, 8\)"),
        ({"3.bias": None}, r"missing: 3\.bias"),
        ({"fc.bias": torch.zeros(2)}, r"unknown: fc\.bias"),
        ({"0.weight": torch.full((2, 1, 3, 3), float("nan"))}, r"'0\.weight' holds NaN"),
        ({"1.running_var": torch.full((2,), float("inf"))}, r"'1\.running_var' holds NaN or Inf"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    torch.save(spoiled(change), tmp_path / "w.pt")
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, tmp_path / "w.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_only_the_first_few_names_are_listed(tmp_path: Path) -> None:
    torch.save({"other": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="and 5 more"):
        load_weights(nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))), tmp_path / "w.pt")


@pytest.mark.parametrize(("name", "message"), [("none.pt", "no weights file"), ("w.onnx", "ends in '.onnx'")])
def test_wrong_paths_are_explained(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "w.onnx").touch()
    with pytest.raises(CheckpointError, match=message):
        load_weights(net(), tmp_path / name)


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="no state dict"):
        load_weights(net(), tmp_path / "w.pt")
