"""Models by name."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from coldpress import zoo
from coldpress.data import read_batches
from coldpress.errors import TaskError
from coldpress.evaluate import evaluate, predictor

FACTORIES = """
from torch import nn

def tiny(num_classes=3):
    return nn.Linear(4, num_classes)

def fixed():
    return nn.Linear(4, 2)

def wrong():
    return 5
"""


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("cifar_resnet20", (3, 32, 32), 269_722),
        ("cifar_resnet56", (3, 32, 32), 853_018),
        ("cifar_resnet18", (3, 32, 32), 11_173_962),
        ("fashion_cnn", (1, 28, 28), 1_226_442),
        ("torchvision:squeezenet1_1", (3, 64, 64), 1_235_496),
    ],
)
def test_models_run_and_have_their_known_size(name: str, shape: tuple[int, ...], parameters: int) -> None:
    model = zoo.model(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert not model.training
    with torch.no_grad():
        assert model(torch.zeros(2, *shape)).dim() == 2


def test_cifar_modules_have_the_agreed_names() -> None:
    names = {name for name, _ in zoo.model("cifar_resnet32").named_modules()}
    blocks = {f"layer{stage}.{i}" for stage in (1, 2, 3) for i in range(5)}
    inner = {f"{block}.{kind}{k}" for block in blocks for kind in ("conv", "bn") for k in (1, 2)}
    assert names == {"", "conv1", "bn1", "linear", "layer1", "layer2", "layer3"} | blocks | inner


def test_padded_shortcuts_subsample_and_pad_with_zeros() -> None:
    block = zoo.model("cifar_resnet20").layer2[0]
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 16, 8, 8)
    with torch.no_grad():
        out = block(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert out[:, :8].abs().sum() == out[:, 24:].abs().sum() == 0


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_resnet18", "fashion_cnn", "torchvision:mobilenet_v3_small"])
def test_the_number_of_classes_can_be_chosen(name: str) -> None:
    model = zoo.model(name, num_classes=7)
    size = 28 if name == "fashion_cnn" else 32
    with torch.no_grad():
        assert model(torch.zeros(2, 1 if name == "fashion_cnn" else 3, size, size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("cifar_resnet21", "cifar_resnet20"),
        ("torchvision:resnet19", "torchvision:resnet18"),
        ("torchvisio:resnet18", "torchvision:resnet18"),
        ("nonsense", "there are cifar_resnet18"),
    ],
)
def test_unknown_names_come_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(TaskError, match=near):
        zoo.model(name)


def test_a_factory_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_models.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    assert zoo.model("my_models:tiny", num_classes=5).out_features == 5
    assert zoo.model(f"{tmp_path}/my_models.py:fixed").out_features == 2
    for name, message in [
        ("my_models:tini", "did you mean 'tiny'"),
        ("my_models:wrong", "returns a int"),
        ("no_models.py:tiny", "no file no_models.py"),
        ("no_models:tiny", "cannot be imported"),
    ]:
        with pytest.raises(TaskError, match=message):
            zoo.model(name)
    with pytest.raises(TaskError, match="takes no argument num_classes"):
        zoo.model("my_models:fixed", num_classes=5)


def test_timm_is_asked_for_by_its_extra() -> None:
    try:
        import timm  # noqa: F401
    except ImportError:
        with pytest.raises(TaskError, match=r"coldpress\[timm\]"):
            zoo.model("timm:resnet18")
    else:
        with pytest.raises(TaskError, match="timm:resnet18"):
            zoo.model("timm:resnet81")


def test_the_bundled_weights_do_what_is_said_of_them() -> None:
    stated = json.loads((Path(zoo.__file__).parent / "bundled" / "fashion_cnn.json").read_text())
    test = zoo.data("fashion-mini").test.subset(range(400))
    evaluation = evaluate(predictor(zoo.model("fashion_cnn", weights="pretrained")), read_batches(test, 200))
    low, high = evaluation.accuracy_interval
    assert low < stated["test_accuracy"] < high


def test_pretrained_needs_a_source() -> None:
    with pytest.raises(TaskError, match="no pretrained weights"):
        zoo.model("cifar_resnet20", weights="pretrained")
