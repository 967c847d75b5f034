"""Packed files: as many bytes as counted, loaded equal, and refused where they are damaged."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import coldpress as cp
from coldpress.energy.filter_correlation import random_samples
from coldpress.errors import ArtifactError, SurgeryError
from coldpress.surgery.decode import Decoded, decode
from coldpress.task import FirstOutput
from tiny import NETWORKS, Chain, build, chain, filters_of, inputs_of


def decoded_of(name: str, refitted: bool = False) -> Decoded:
    net, inputs = build(name), inputs_of(name, 8)
    space = filters_of(net, inputs)
    return decode(net, space, random_samples(space, 3)[1], inputs if refitted else None)


def least_bytes(weight: Tensor, bits: int) -> int:
    """Of a layer's levels: each at so many bits, or those that are not zero and a bit each for where they are."""
    count, kept = weight.numel(), int((weight != 0).sum())
    return min(math.ceil(count * bits / 8), math.ceil(kept * bits / 8) + math.ceil(count / 8))


@pytest.mark.parametrize("refitted", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_loaded_is_saved(name: str, refitted: bool, tmp_path: Path) -> None:
    decoded = decoded_of(name, refitted)
    cp.pack_weights(decoded.model, decoded.bits, tmp_path / "a", decoded.plan.structure)
    loaded = cp.load(tmp_path / "a", NETWORKS[name])
    saved = decoded.model.state_dict()
    assert list(loaded.state_dict()) == list(saved)
    assert all(torch.equal(tensor, saved[key]) for key, tensor in loaded.state_dict().items())


def test_the_file_is_as_large_as_its_bits(tmp_path: Path) -> None:
    decoded = decoded_of("padded shortcuts")
    size = cp.pack_weights(decoded.model, decoded.bits, tmp_path / "a")
    weights = {name: decoded.model.get_submodule(name).get_parameter("weight") for name in decoded.bits}
    assert size.levels == sum(least_bytes(weights[name], bits) for name, bits in decoded.bits.items())
    assert size.levels * 8 - decoded.weight_bits < 8 * len(weights)
    assert size.scales == 4 * sum(len(weight) for weight in weights.values())
    rest = [t for key, t in decoded.model.state_dict().items() if key.removesuffix(".weight") not in weights]
    assert size.others == sum(t.numel() * t.element_size() for t in rest)
    assert size.total == (tmp_path / "a").stat().st_size


def test_a_single_value_in_the_place_of_many_is_packed(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 1))
    net[0].bias.data = torch.zeros(1, 28)[:, 0]  # what stays of a row where one channel is kept
    cp.pack_weights(net, {"0": 3}, tmp_path / "net.safetensors")
    again = cp.load(tmp_path / "net.safetensors", lambda: torch.nn.Sequential(torch.nn.Linear(4, 1)))
    assert torch.equal(again[0].bias, net[0].bias)


def test_weights_of_the_search_are_packed_at_the_bits_that_their_levels_take(tmp_path: Path) -> None:
    net = chain()
    weight = net.get_submodule("first").get_parameter("weight").detach().flatten(1)
    found = cp.round_weights(weight, torch.eye(27), bits=3, group_size=9)
    size = cp.pack_weights(net, {"first": found}, tmp_path / "a")
    assert size.levels == math.ceil(81 * 3 / 8)
    loaded = cp.load(tmp_path / "a", Chain)
    torch.testing.assert_close(loaded.get_submodule("first").get_parameter("weight").flatten(1), found.dequantized)


@pytest.mark.parametrize("group_size", [None, 10])
@pytest.mark.parametrize("sparsity", [None, 0.6, "1:3"])
def test_weights_of_the_search_come_back_to_the_bit(
    sparsity: float | str | None, group_size: int | None, tmp_path: Path
) -> None:
    net = chain()
    module = net.get_submodule("first")
    weight, x = module.get_parameter("weight"), torch.rand(27, 90, generator=torch.Generator().manual_seed(1))
    for sweeps in (0, 4):
        found = cp.round_weights(weight.flatten(1), x @ x.T, 4, sparsity, sweeps=sweeps, group_size=group_size)
        module.weight = torch.nn.Parameter(found.dequantized.reshape(weight.shape))
        size = cp.pack_weights(net, {"first": found}, tmp_path / "a")
        assert size.levels == least_bytes(found.levels, 4)
        assert size.scales == 4 * found.scales.numel()
        loaded = cp.load(tmp_path / "a", Chain).state_dict()
        assert all(torch.equal(tensor, loaded[key]) for key, tensor in net.state_dict().items())


def test_wrapped_networks_and_half_precision_come_back(tmp_path: Path) -> None:
    wrapped = FirstOutput(build("tuple").half())
    cp.pack_weights(wrapped, {"model.stem.0": 4}, tmp_path / "a")
    loaded = cp.load(tmp_path / "a", lambda: NETWORKS["tuple"]().half())
    assert isinstance(loaded, FirstOutput)
    assert loaded.model.get_submodule("stem.0").get_parameter("weight").dtype == torch.float16


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "packed.safetensors"
    cp.pack_weights(chain(), {"first": 3, "second": 2}, path)
    return path


@pytest.mark.parametrize(("where", "words"), [(-1, "checksum"), (-40, "checksum"), (12, "damaged"), (200, "damaged")])
def test_one_wrong_bit_is_noticed(packed: Path, where: int, words: str) -> None:
    data = bytearray(packed.read_bytes())
    data[where] ^= 1
    packed.write_bytes(data)
    with pytest.raises(ArtifactError, match=words):
        cp.load(packed, Chain)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files_are_refused(packed: Path, share: float) -> None:
    data = packed.read_bytes()
    packed.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ArtifactError, match="truncated or damaged"):
        cp.load(packed, Chain)


def changed(packed: Path, **entries: str) -> None:
    with safe_open(packed, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() | entries
    save_file(tensors, packed, {key: value for key, value in metadata.items() if value})


def test_headers_that_were_changed_are_refused(packed: Path) -> None:
    with safe_open(packed, "pt") as file:
        head = json.loads(file.metadata()["head"])
    head["layers"]["first"]["bits"] = 2
    changed(packed, head=json.dumps(head, sort_keys=True))
    with pytest.raises(ArtifactError, match="checksum"):
        cp.load(packed, Chain)


def test_other_formats_and_other_files_are_refused(packed: Path, tmp_path: Path) -> None:
    changed(packed, coldpress_packed="9")
    with pytest.raises(ArtifactError, match="format '9'"):
        cp.load(packed, Chain)
    changed(packed, coldpress_packed="")
    with pytest.raises(ArtifactError, match="no packed weights"):
        cp.load(packed, Chain)


def test_other_networks_and_no_factory_are_refused(packed: Path) -> None:
    with pytest.raises(ArtifactError, match="does not hold this model"):
        cp.load(packed, NETWORKS["tuple"])
    with pytest.raises(ArtifactError, match="model_factory"):
        cp.load(packed)


def test_layers_that_are_not_there_and_bits_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="'third' is no layer"):
        cp.pack_weights(chain(), {"third": 4}, tmp_path / "a")
    with pytest.raises(SurgeryError, match="bits is 9"):
        cp.pack_weights(chain(), {"first": 9}, tmp_path / "a")
    other = cp.round_weights(torch.randn(4, 9), torch.eye(9))
    with pytest.raises(ArtifactError, match="must be of this layer"):
        cp.pack_weights(chain(), {"first": other}, tmp_path / "a")
    assert not list(tmp_path.iterdir())
