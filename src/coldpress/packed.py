"""Networks in files of few bits a weight: bit-packed safetensors with a checksum, read back equal.

This is size, not speed: the network is unpacked to floats before it runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from coldpress.errors import ArtifactError, SurgeryError
from coldpress.files import write_tensors
from coldpress.surgery.grid import to_grid
from coldpress.surgery.packing import pack_levels, pack_places, packed_bytes, unpack_levels, unpack_places
from coldpress.surgery.round_weights import Rounded
from coldpress.workspace import explained

FORMAT = "2"
LEVELS, PLACES, SCALES = ".levels", ".places", ".scales"


@dataclass(frozen=True)
class PackedSize:
    """Bytes of a packed file, by what they hold.

    Attributes:
        levels: weights at their few bits; of sparse ones those that are not zero, and a bit each for where they are.
        scales: of the levels.
        others: everything that is not packed: biases, norms, other layers.
        header: names, shapes and the checksum.
    """

    levels: int
    scales: int
    others: int
    header: int

    @property
    def total(self) -> int:
        """Bytes of the file."""
        return self.levels + self.scales + self.others + self.header


def pack_weights(
    model: nn.Module,
    layers: Mapping[str, int | Rounded],
    path: str | Path,
    structure: Mapping[str, Mapping[str, Any]] | None = None,
) -> PackedSize:
    """Write a network, some layers' weights in few bits each (beside, then renamed); `coldpress.load` reads it.

    Args:
        model: the network.
        layers: module name to bits (2 to 8; weights are rounded to the nearest level of a grid that spans each
            output's largest weight; those on it already stay as they are), or to what `coldpress.round_weights` gave,
            which takes the bits that its levels need. Where that is smaller, zeros take a bit each and nothing else.
        path: of the file; ``.safetensors`` by custom.
        structure: ``Plan.structure``, where layers differ from the original's, so that `coldpress.load` rebuilds them.

    Returns:
        The file's bytes.

    Raises:
        ArtifactError: a name is no layer's with a weight, or the file cannot be written.
        SurgeryError: bits out of range, or weights that are NaN or infinite.

    Example:
        >>> import tempfile
        >>> net, file = nn.Sequential(nn.Linear(64, 32)), Path(tempfile.mkdtemp()) / "net.safetensors"
        >>> pack_weights(net, {"0": 3}, file).levels == 64 * 32 * 3 // 8
        True
    """
    path, tensors = Path(path), {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    described: dict[str, dict[str, Any]] = {}
    sizes = {LEVELS: 0, PLACES: 0, SCALES: 0}
    for layer, given in layers.items():
        name = f"{layer}.weight"
        if name not in tensors or tensors[name].dim() < 2:
            raise ArtifactError(f"{layer!r} is no layer of this model that has weights: name one that has")
        weight = tensors.pop(name)
        found = _levels(name, weight, given)
        described[layer] = found.described(weight)
        for suffix, tensor in found.tensors().items():
            tensors[name + suffix] = tensor
            sizes[suffix] += tensor.numel() * tensor.element_size()
    head = {"layers": described, "structure": dict(structure or {})}
    text = json.dumps(head, sort_keys=True)
    metadata = {"coldpress_packed": FORMAT, "head": text, "sha256": _digest(text, tensors)}
    with explained(path):
        write_tensors(path, tensors, metadata)
    stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    levels, scales = sizes[LEVELS] + sizes[PLACES], sizes[SCALES]
    return PackedSize(levels, scales, stored - levels - scales, path.stat().st_size - stored)


def read_packed(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A packed file's head (``layers`` and ``structure``) and all tensors of its network, unpacked.

    Raises:
        ArtifactError: the file is missing, truncated or damaged (its checksum is wrong), or no packed file.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} is missing, truncated or damaged: {error}") from error
    if "coldpress_packed" not in metadata:
        raise ArtifactError(f"{path} holds no packed weights: coldpress.pack_weights writes such files")
    if metadata["coldpress_packed"] != FORMAT:
        raise ArtifactError(f"{path} is of format {metadata['coldpress_packed']!r}; this version reads {FORMAT}")
    text = metadata.get("head", "")
    if _digest(text, tensors) != metadata.get("sha256"):
        raise ArtifactError(f"{path} is damaged: its checksum is not that of its contents; copy or pack it again")
    try:
        head = dict(json.loads(text))
        for layer, described in head["layers"].items():
            tensors[f"{layer}.weight"] = _unpacked(f"{layer}.weight", described, tensors)
        return {"layers": head["layers"], "structure": head["structure"]}, tensors
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, SurgeryError) as error:
        raise ArtifactError(f"{path} cannot be unpacked: {error}") from error


@dataclass(frozen=True)
class _Levels:
    """A layer's levels ``(rows, columns)`` and scales ``(rows, groups)``, as they are stored."""

    levels: Tensor
    scales: Tensor
    bits: int
    group_size: int

    @property
    def sparse(self) -> bool:
        """Whether it is smaller to store where the zeros are than to store them."""
        count, kept = self.levels.numel(), int((self.levels != 0).sum())
        return packed_bytes(kept, self.bits) + packed_bytes(count, 1) < packed_bytes(count, self.bits)

    def described(self, weight: Tensor) -> dict[str, Any]:
        """What the file's head says of the layer."""
        return {
            "bits": self.bits,
            "group_size": self.group_size,
            "sparse": self.sparse,
            "shape": list(weight.shape),
            "dtype": str(weight.dtype).split(".")[-1],
        }

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the file, by the end of their name."""
        if not self.sparse:
            return {LEVELS: pack_levels(self.levels, self.bits), SCALES: self.scales}
        places = self.levels != 0
        kept = pack_levels(self.levels[places], self.bits)
        return {LEVELS: kept, PLACES: pack_places(places), SCALES: self.scales}


def _levels(name: str, weight: Tensor, given: int | Rounded) -> _Levels:
    columns = weight[0].numel()
    if not isinstance(given, Rounded):
        grid = to_grid(weight, given)
        return _Levels(grid.levels.flatten(1), grid.scales[:, None], grid.bits, columns)
    levels, scales, size = given.levels, given.scales, given.group_size
    if levels.shape != (len(weight), columns) or scales.shape != (len(weight), -(-columns // size)):
        raise ArtifactError(
            f"{name!r} is {tuple(weight.shape)}, its levels are {tuple(levels.shape)} with scales "
            f"{tuple(scales.shape)} of {size} columns each: they must be of this layer"
        )
    low, high = int(levels.min()), int(levels.max())
    bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1
    return _Levels(levels, scales, max(bits, 2), size)


def _unpacked(name: str, described: Mapping[str, Any], tensors: dict[str, Tensor]) -> Tensor:
    shape, scales = [int(n) for n in described["shape"]], tensors.pop(name + SCALES)
    count, bits, stored = torch.Size(shape).numel(), int(described["bits"]), tensors.pop(name + LEVELS)
    if described["sparse"]:
        places = unpack_places(tensors.pop(name + PLACES), count)
        levels = torch.zeros(count, dtype=torch.int8)
        levels[places] = unpack_levels(stored, bits, int(places.sum()))
    else:
        levels = unpack_levels(stored, bits, count)
    rows = levels.float().reshape(shape[0], -1)
    value = rows * scales[:, torch.arange(rows.shape[1]) // int(described["group_size"])]
    dtype = getattr(torch, str(described["dtype"]))
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{described['dtype']!r} is no type of tensor")
    return value.reshape(shape).to(dtype)


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        # a copy, since what has one value counts as contiguous whatever its strides, and then has no bytes to view
        tensor = tensors[name].clone(memory_format=torch.contiguous_format)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
