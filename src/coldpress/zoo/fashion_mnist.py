"""Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747, MIT licence): the whole, and the subset that comes along."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor

from coldpress.data import TensorData
from coldpress.errors import TaskError
from coldpress.zoo.cache import cache_folder

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
MEAN, STD = (0.286,), (0.353,)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
BUNDLED = Path(__file__).parent / "bundled" / "fashion_mini.npz"


def read_mini(data_dir: Path | None = None) -> tuple[TensorData, TensorData, TensorData]:
    """The bundled subset, already split; ``data_dir`` is not used."""
    with np.load(BUNDLED, allow_pickle=False) as stored:
        parts = [
            _as_data(torch.from_numpy(stored[f"{part}_images"]), torch.from_numpy(stored[f"{part}_labels"]))
            for part in ("train", "validation", "test")
        ]
    return parts[0], parts[1], parts[2]


def read_whole(data_dir: Path | None) -> tuple[TensorData, None, TensorData]:
    """All 60,000 and 10,000 images: from ``data_dir``, from Debian's package, else downloaded by torchvision.

    Raises:
        TaskError: the files are nowhere, and cannot be downloaded or read.
    """
    root = data_dir if data_dir is not None else cache_folder()
    places = (root, root / "FashionMNIST" / "raw", DEBIAN)
    place = next((place for place in places if _file(place, "t10k-images-idx3-ubyte") is not None), None)
    if place is None:
        place = places[1]
        try:
            torchvision.datasets.FashionMNIST(root, download=True)
        except (OSError, RuntimeError) as error:
            raise TaskError(
                f"Fashion-MNIST is not in {root} and cannot be downloaded ({error}); put its four idx files there, "
                "or install Debian's package dataset-fashion-mnist"
            ) from error
    train, test = (
        _as_data(
            _read_idx(place, f"{part}-images-idx3-ubyte")[:, None], _read_idx(place, f"{part}-labels-idx1-ubyte").long()
        )
        for part in ("train", "t10k")
    )
    return train, None, test


def _as_data(images: Tensor, labels: Tensor) -> TensorData:
    return TensorData(images, labels.long(), CLASSES, mean=MEAN, std=STD, flip=True, pad=2)


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read_idx(folder: Path, name: str) -> Tensor:
    path = _file(folder, name)
    if path is None:
        raise TaskError(f"no file {folder / name}[.gz]; the four idx files of Fashion-MNIST belong together")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        dimensions = content[3]
        shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
        values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, struct.error) as error:
        raise TaskError(f"{path} cannot be read ({error}); fetch it again") from error
    return torch.from_numpy(values.copy())
