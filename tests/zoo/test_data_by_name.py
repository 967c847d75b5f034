"""Data sets by name."""

import gzip
import io
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from coldpress import zoo
from coldpress.errors import TaskError
from coldpress.task import Task
from coldpress.zoo import cifar10

SHARED = Path(os.environ.get("COLDPRESS_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COLDPRESS_DATA", raising=False)


def image(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write_tar(path: Path, split: str, each: int, seed: int) -> None:
    with tarfile.open(path / f"cifar10-jpeg-{split}.tar.gz", "w:gz") as archive:
        for label, name in enumerate(cifar10.CLASSES):
            for i in range(each):
                buffer = io.BytesIO()
                image(seed + 100 * label + i).save(buffer, "JPEG")
                member = tarfile.TarInfo(f"{split}/{name}/{i:04d}.jpg")
                member.size = buffer.tell()
                buffer.seek(0)
                archive.addfile(member, buffer)


def write_folder(path: Path, classes: int = 2, each: int = 12, size: tuple[int, int] = (16, 16)) -> None:
    for label in range(classes):
        folder = path / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(each):
            image(1000 * label + i + len(str(path)) * 77, size).save(folder / f"{i}.png")


def test_the_bundled_data_is_small_balanced_and_disjoint() -> None:
    splits = zoo.data("fashion-mini")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [6000, 1000, 2000]
    for part in splits.arguments().values():
        assert (part.labels.bincount() == len(part) // 10).all()
    Task(zoo.model("fashion_cnn"), torch.zeros(1, 1, 28, 28), **splits.arguments())
    bundled = Path(zoo.__file__).parent / "bundled"
    assert sum(f.stat().st_size for f in (bundled / "fashion_mini.npz", bundled / "LICENSE-fashion-mnist")) < 5e6


def test_validation_can_be_joined_to_train(tmp_path: Path) -> None:
    splits = zoo.data("fashion-mini")
    whole = splits.whole()
    assert len(whole.train) == len(splits.train) + len(splits.validation)
    assert whole.validation is None
    assert (whole.train.flip, whole.train.pad, whole.test) == (splits.train.flip, splits.train.pad, splits.test)
    for name, size in (("cat", (40, 30)), ("dog", (30, 40))):  # not kept in memory: images of several sizes
        (tmp_path / name).mkdir()
        for i in range(20):
            image(i, size).save(tmp_path / name / f"{i}.png")
    splits = zoo.data(f"folder:{tmp_path}")
    assert len(splits.whole().train) == len(splits.train) + len(splits.validation)


def test_normalisation_of_the_bundled_data_is_about_right() -> None:
    inputs, _ = next(zoo.data("fashion-mini").train.batches(6000))
    assert abs(float(inputs.mean())) < 0.05
    assert abs(float(inputs.std()) - 1) < 0.05


def test_the_jpeg_edition_is_decoded_once(tmp_path: Path) -> None:
    write_tar(tmp_path, "train", 10, seed=0)
    write_tar(tmp_path, "test", 2, seed=50_000)
    first = zoo.data("cifar10-jpeg", tmp_path)
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 2
    again = zoo.data("cifar10-jpeg", tmp_path)
    other = zoo.data("cifar10-jpeg", tmp_path, seed=1)
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert not torch.equal(first.train.inputs, other.train.inputs)
    assert [len(first.train), len(first.validation), len(first.test)] == [90, 10, 20]
    assert (first.validation.labels.bincount() == 1).all()
    for path in (tmp_path / "cache").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:1000])
    assert torch.equal(zoo.data("cifar10-jpeg", tmp_path).train.inputs, first.train.inputs)


def test_duplicates_of_test_leave_train(tmp_path: Path) -> None:
    write_tar(tmp_path, "train", 10, seed=0)
    write_tar(tmp_path, "test", 2, seed=0)
    splits = zoo.data("cifar10-jpeg", tmp_path)
    assert len(splits.train) + len(splits.validation) == 80
    assert len(splits.test) == 20


def test_files_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="COLDPRESS_DATA"):
        zoo.data("cifar10-jpeg")
    with pytest.raises(TaskError, match="does not exist"):
        zoo.data("cifar10-jpeg", tmp_path / "nowhere")
    with pytest.raises(TaskError, match=r"no file .*cifar10-jpeg-train\.tar\.gz"):
        zoo.data("cifar10-jpeg", tmp_path)
    write_tar(tmp_path, "train", 2, seed=0)
    path = tmp_path / "cifar10-jpeg-train.tar.gz"
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(TaskError, match="cannot be read"):
        zoo.data("cifar10-jpeg", tmp_path)


@pytest.mark.parametrize(
    ("name", "near"), [("cifar10-jpg", "cifar10-jpeg"), ("fashion", "fashion-mnist"), ("x", "there are cifar10")]
)
def test_unknown_names_come_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(TaskError, match=near):
        zoo.data(name)


def test_fashion_mnist_is_read_from_idx_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 10)):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        content = struct.pack(">I3I", 0x0803, count, 28, 28) + pixels.tobytes()
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
        labels = (np.arange(count) % 10).astype(np.uint8)
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x0801, count) + labels.tobytes())
    splits = zoo.data("fashion-mnist", tmp_path)
    assert torch.equal(splits.test.inputs[:, 0], torch.from_numpy(pixels))
    assert splits.test.labels.tolist() == list(range(10))
    assert [len(splits.train), len(splits.validation)] == [36, 4]
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(TaskError, match="cannot be read"):
        zoo.data("fashion-mnist", tmp_path)


def test_a_plain_folder_is_split_by_the_seed(tmp_path: Path) -> None:
    write_folder(tmp_path / "plain", each=50)
    splits = zoo.data(f"folder:{tmp_path / 'plain'}")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [81, 9, 10]
    assert splits.train.classes == ("class0", "class1")
    assert splits.train.inputs.shape[1:] == (3, 16, 16)


def test_folders_of_splits_are_used(tmp_path: Path) -> None:
    for part, each in (("train", 20), ("val", 5), ("test", 6)):
        write_folder(tmp_path / "parts" / part, each=each)
    splits = zoo.data(f"folder:{tmp_path / 'parts'}")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [40, 10, 12]


def test_images_of_several_sizes_are_resized(tmp_path: Path) -> None:
    write_folder(tmp_path / "sizes", classes=2, each=10)
    image(5, (40, 20)).save(tmp_path / "sizes" / "class0" / "wide.png")
    splits = zoo.data(f"folder:{tmp_path / 'sizes'}")
    x, _ = splits.train[0]
    assert x.shape == (3, 224, 224)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 21


def test_bad_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no folder"):
        zoo.data(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(TaskError, match="names no path"):
        zoo.data("folder:")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError, match="holds no images"):
        zoo.data(f"folder:{tmp_path / 'empty'}")
    write_folder(tmp_path / "one", classes=1)
    with pytest.raises(TaskError, match="one class only"):
        zoo.data(f"folder:{tmp_path / 'one'}")
    write_folder(tmp_path / "two")
    (tmp_path / "two" / "class0" / "0.png").write_bytes(b"no image")
    with pytest.raises(TaskError, match=r"0\.png cannot be read"):
        zoo.data(f"folder:{tmp_path / 'two'}")
    write_folder(tmp_path / "other" / "train", classes=3)
    write_folder(tmp_path / "other" / "test", classes=2)
    with pytest.raises(TaskError, match="test has the classes"):
        zoo.data(f"folder:{tmp_path / 'other'}")


@pytest.mark.skipif(not (SHARED / "cifar10-resnets").is_dir(), reason="set COLDPRESS_DATA to the development data")
def test_published_checkpoints_load() -> None:
    for depth in (20, 32, 44, 56):
        (path,) = (SHARED / "cifar10-resnets").glob(f"resnet{depth}-*.th")
        assert zoo.model(f"cifar_resnet{depth}", weights=path).linear.out_features == 10
    assert zoo.model("cifar_resnet18", weights=SHARED / "resnet18-cifar10-jpeg.safetensors").fc.out_features == 10
