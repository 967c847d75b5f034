"""CIFAR-10: as published, or re-encoded as JPEG in two tar files of ``<split>/<class>/NNNN.jpg``.

The JPEG edition is decoded once into a cache. It is not the published data: say "CIFAR-10 (JPEG)" beside its numbers.
Both are normalised by ImageNet's mean and deviation, as the checkpoints in common use are.
"""

from __future__ import annotations

import hashlib
import io
import logging
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from PIL import Image
from torch import Tensor

from coldpress.data import TensorData
from coldpress.errors import TaskError
from coldpress.files import beside
from coldpress.zoo.cache import cache_folder

logger = logging.getLogger("coldpress.zoo")

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def read_jpeg(data_dir: Path | None) -> tuple[TensorData, None, TensorData]:
    """Train and test of the JPEG edition. Raises TaskError when a tar file is missing or damaged."""
    if data_dir is None:
        raise TaskError("cifar10-jpeg needs a folder that holds its tar files; give --data-dir or set COLDPRESS_DATA")
    return _read_tar(data_dir / "cifar10-jpeg-train.tar.gz"), None, _read_tar(data_dir / "cifar10-jpeg-test.tar.gz")


def read_published(data_dir: Path | None) -> tuple[TensorData, None, TensorData]:
    """Train and test as published, downloaded by torchvision when missing. Raises TaskError when that fails."""
    root = data_dir if data_dir is not None else cache_folder()
    parts = []
    for train in (True, False):
        try:
            published = torchvision.datasets.CIFAR10(root, train=train, download=not _unpacked(root))
        except (OSError, RuntimeError, tarfile.TarError) as error:
            raise TaskError(
                f"CIFAR-10 is not in {root} and cannot be downloaded ({error}); put cifar-10-python.tar.gz there"
            ) from error
        images = torch.from_numpy(published.data).permute(0, 3, 1, 2).contiguous()
        parts.append(_as_data(images, torch.tensor(published.targets)))
    return parts[0], None, parts[1]


def _unpacked(root: Path) -> bool:
    return (root / "cifar-10-batches-py" / "test_batch").is_file()


def _as_data(images: Tensor, labels: Tensor) -> TensorData:
    return TensorData(images, labels, CLASSES, mean=IMAGENET_MEAN, std=IMAGENET_STD, flip=True, pad=4)


def _read_tar(path: Path) -> TensorData:
    if not path.is_file():
        raise TaskError(
            f"no file {path}; --data-dir must name the folder of cifar10-jpeg-train.tar.gz and -test.tar.gz"
        )
    state = path.stat()
    key = hashlib.sha256(f"{path.name}:{state.st_size}:{state.st_mtime_ns}".encode()).hexdigest()[:16]
    cached = cache_folder() / f"{path.name.split('.')[0]}-{key}.npz"
    arrays = _load(cached)
    if arrays is None:
        logger.info("decoding %s into %s", path, cached)
        arrays = _decode(path)
        _save(cached, *arrays)
    images, labels = arrays
    return _as_data(torch.from_numpy(images), torch.from_numpy(labels))


def _decode(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    images: list[npt.NDArray[np.uint8]] = []
    names: list[str] = []
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() and member.name.endswith(".jpg") else None
                if file is not None:
                    image = Image.open(io.BytesIO(file.read())).convert("RGB")
                    images.append(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))
                    names.append(member.name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise TaskError(f"{path} cannot be read ({error}); fetch it again") from error
    if not images:
        raise TaskError(f"{path} holds no .jpg file; it must hold <split>/<class>/NNNN.jpg")
    # Archive order is an accident of the file system; sorted, the same seed gives the same splits everywhere.
    order = sorted(range(len(names)), key=names.__getitem__)
    unknown = sorted({Path(name).parent.name for name in names} - set(CLASSES))
    if unknown or len({image.shape for image in images}) > 1:
        what = f"holds the classes {', '.join(unknown)}" if unknown else "holds images of several sizes"
        raise TaskError(f"{path} {what}; it must hold <split>/<class>/NNNN.jpg of {', '.join(CLASSES)}, all 32 x 32")
    labels = [CLASSES.index(Path(names[i]).parent.name) for i in order]
    return np.ascontiguousarray(np.stack([images[i] for i in order])), np.array(labels, dtype=np.int64)


def _load(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]] | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["images"], stored["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        logger.warning("the cache file %s is damaged; it is made again", path)
        return None


def _save(path: Path, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
    try:
        with beside(path) as place, open(place, "wb") as file:
            np.savez(file, images=images, labels=labels)
    except OSError as error:
        logger.warning("the cache %s cannot be written (%s); the data is decoded again next time", path, error)
