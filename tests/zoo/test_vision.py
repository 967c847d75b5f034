"""Hugging Face image classifiers from a folder: loaded, their images prepared, compressed, and loaded back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import coldpress as cp
from coldpress.commands.subject import read_task
from coldpress.errors import TaskError
from coldpress.logits import FirstOutput
from coldpress.runtime import run, session
from coldpress.space import find_space

transformers = pytest.importorskip("transformers", reason="needs the extra coldpress[hf]")

KINDS = ("ViTForImageClassification", "DeiTForImageClassification", "DeiTForImageClassificationWithTeacher")
NORM = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2]}
CLASSES = {"id2label": {0: "Night", 1: "day"}, "label2id": {"Night": 0, "day": 1}}


def tiny(kind: str) -> nn.Module:
    torch.manual_seed(0)
    config = getattr(transformers, kind).config_class(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        initializer_range=0.5,
        **CLASSES,
    )
    model: nn.Module = getattr(transformers, kind)(config).eval()
    return model


def saved(place: Path, kind: str = KINDS[0], **preprocessor: object) -> str:
    tiny(kind).save_pretrained(place)
    if preprocessor:
        (place / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return f"hf:{place}"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright days and dark nights, 12 x 12 pixels."""
    folder = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for name, low in (("day", 128), ("night", 0)):
        (folder / name).mkdir()
        for i in range(40):
            pixels = draw.integers(low, low + 128, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def task_of(name: str, images: Path) -> cp.Task:
    return read_task(cp.Recipe(model=name, data=f"folder:{images}"))


@pytest.mark.parametrize("kind", KINDS)
def test_heads_neurons_and_blocks_are_found(kind: str, tmp_path: Path) -> None:
    task = cp.Task(cp.zoo.model(saved(tmp_path / "model", kind)), torch.randn(2, 3, 16, 16))
    units = [unit.name for unit in find_space(task, ["width", "depth"]).units]
    layers = [f"model.{'deit' if kind.startswith('DeiT') else 'vit'}.layers.{i}" for i in range(2)]
    widths = [f"{layer}.{part}:width" for layer in layers for part in ("attention.q_proj", "mlp.fc1")]
    parts = [f"{layer}.{part}" for layer in layers for part in ("attention", "mlp")]
    assert units == [*widths, *(f"{name}:depth" for name in (*layers, *parts))]


@pytest.mark.parametrize("kind", KINDS[:2])
def test_the_artifact_loads_back(kind: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path / "cache"))
    name = saved(tmp_path / "model", kind)
    task = task_of(name, images)
    settings = {"units": ("width",), "calibration": 16, "refit_images": 24, "random_plans": 3, "refit_plans": 0}
    settings |= {"solver": "greedy", "rounds": 0, "epochs": 0}
    result = cp.compress(task, cp.Budget(macs="70%"), out=tmp_path / "run", **settings)
    assert result.metrics["compressed"]["macs"] <= 0.7 * result.metrics["original"]["macs"]
    file = session(tmp_path / "run" / "model.onnx")
    assert [node.name for node in file.get_inputs()] == ["pixel_values"]
    pixels = torch.randn(3, 3, 16, 16)
    for model in (cp.load(tmp_path / "run", lambda: cp.zoo.model(name)), cp.load(tmp_path / "run")):
        with torch.no_grad():
            assert np.allclose(run(file, [pixels.numpy()])[0], model(pixels).numpy(), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_itself_makes_a_task(kind: str) -> None:
    model, pixels = tiny(kind), torch.randn(2, 3, 16, 16)
    task = cp.Task(model, pixels)
    assert isinstance(task.model, FirstOutput)
    with torch.no_grad():
        assert torch.equal(task.model(pixels), model(pixels).logits)


def test_images_are_prepared_and_numbered_as_the_model_does(images: Path, tmp_path: Path) -> None:
    task = task_of(saved(tmp_path / "model", size={"height": 16, "width": 16}, **NORM), images)
    assert task.classes == ("Night", "day")
    (inputs,), labels = next(task.batches("test", 8))
    mean, std = (torch.tensor(NORM[f"image_{name}"]).view(3, 1, 1) for name in ("mean", "std"))
    bright = (inputs * std + mean).mean((1, 2, 3)) > 0.5
    assert inputs.shape[1:] == (3, 16, 16)
    assert torch.equal(bright.long(), labels)


def test_images_of_several_sizes_are_those_of_the_models_own_processor(images: Path, tmp_path: Path) -> None:
    place = tmp_path / "images" / "day"
    place.mkdir(parents=True)
    (place.parent / "night").mkdir()
    for i, side in enumerate((40, 33, 50, 64) * 4):
        pixels = Image.open(images / "day" / f"{i}.png").resize((side, 40), Image.Resampling.BICUBIC)
        pixels.save((place if i % 2 else place.parent / "night") / f"{i}.png")
    form = {"size": {"shortest_edge": 18}, "crop_size": {"height": 16, "width": 16}, "do_center_crop": True}
    form |= {"resample": 3, "image_processor_type": "DeiTImageProcessor", **NORM}
    task = task_of(saved(tmp_path / "model", **form), place.parent)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "model")
    folder = task.train.dataset.dataset
    for index in (0, 3):
        image, label = folder[index]
        file = Path(folder.samples[index][0])
        theirs = processor(Image.open(file), return_tensors="pt")["pixel_values"][0]
        assert torch.allclose(image, theirs, atol=0.05)
        assert ("Night", "day")[label].lower() == file.parent.name


def test_pixels_that_are_not_normalised_stay_from_0_to_1(images: Path, tmp_path: Path) -> None:
    place = saved(tmp_path / "model", size={"height": 16, "width": 16}, do_normalize=False, **NORM)
    (inputs,), _ = next(task_of(place, images).batches("test", 8))
    assert inputs.min() >= 0
    assert inputs.max() <= 1


def test_what_does_not_fit_is_told(images: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="16 x 24 pixels"):
        task_of(saved(tmp_path / "oblong", size={"height": 16, "width": 24}), images)
    with pytest.raises(TaskError, match="sizes images by longest_edge"):
        task_of(saved(tmp_path / "longest", size={"longest_edge": 32}), images)
    with pytest.raises(TaskError, match="does not scale pixels"):
        task_of(saved(tmp_path / "scaled", rescale_factor=1 / 127.5), images)
    (tmp_path / "named").mkdir()
    for name in ("day", "dusk"):
        (tmp_path / "named" / name).symlink_to(images / "day")
    with pytest.raises(TaskError, match="no class called dusk; it has Night, day"):
        task_of(saved(tmp_path / "model"), tmp_path / "named")
    transformers.ViTModel(tiny(KINDS[0]).config).save_pretrained(tmp_path / "headless")
    config = json.loads((tmp_path / "headless" / "config.json").read_text())
    (tmp_path / "headless" / "config.json").write_text(json.dumps(config | {"architectures": [KINDS[0]]}))
    with pytest.raises(TaskError, match=r"brings no weights for model\.classifier|brings no weights for classifier"):
        task_of(f"hf:{tmp_path / 'headless'}", images)
    (tmp_path / "texts.tsv").write_text("text\tlabel\na\t0\nb\t1\n")
    with pytest.raises(TaskError, match="need a model with a tokenizer"):
        read_task(cp.Recipe(model=f"hf:{tmp_path / 'model'}", data=str(tmp_path / "texts.tsv")))
