"""Tiny real networks with the structures that surgery must understand, their BatchNorms as if trained."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from coldpress.filters import FilterSpace
from coldpress.plan import Space
from coldpress.space import find_space
from coldpress.space.filters import find_filters
from coldpress.zoo.cifar import CifarResNet


def conv(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Head(nn.Module):
    """Mean over positions, then a linear layer; subclasses say what comes before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 5)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(x.mean((2, 3)))


class Branches(Head):
    """Two branches, concatenated."""

    def __init__(self) -> None:
        super().__init__(12)
        self.left, self.right, self.join = conv(3, 8), conv(3, 16, 1), conv(24, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.join(torch.cat([self.left(x), self.right(x)], 1)))


class Grouped(Head):
    """A depthwise convolution, then a grouped one between equals."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.depthwise, self.mix = conv(3, 16), conv(16, 16, groups=16), conv(16, 16, 1)
        self.grouped, self.last = conv(16, 16, groups=4), conv(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.last(self.grouped(self.mix(self.depthwise(self.stem(x))))))


class SqueezeExcite(Head):
    """Channels scaled by what their means say."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.last = conv(3, 16), conv(16, 8)
        self.squeeze, self.excite = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        scale = torch.sigmoid(self.excite(torch.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return self.classify(self.last(x * scale))


class Flat(nn.Module):
    """A flatten between convolution and linear: each channel is many features."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv(3, 8), nn.MaxPool2d(2), conv(8, 12), nn.MaxPool2d(4))
        self.hidden, self.head = nn.Linear(12 * 4, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.features(x).flatten(1))))


class TwoInputs(Head):
    """An image and a vector."""

    def __init__(self) -> None:
        super().__init__(8)
        self.image, self.vector, self.last = conv(3, 16), nn.Linear(6, 16), conv(16, 8)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        return self.classify(self.last(self.image(x) + torch.relu(self.vector(v))[:, :, None, None]))


class Pair(Head):
    """Returns logits and features."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.last = conv(3, 16), conv(16, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.last(self.stem(x))
        return self.classify(x), x


class Shuffled(Head):
    """Channels dealt out between two halves, as in ShuffleNet."""

    def __init__(self) -> None:
        super().__init__(16)
        self.stem, self.left, self.last = conv(3, 16), conv(8, 8), conv(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, 1)
        x = torch.cat([self.left(left), right], 1)
        n, c, h, w = x.shape
        return self.classify(self.last(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)))


class Projected(Head):
    """torchvision's residual blocks: one as it is, one whose shortcut projects."""

    def __init__(self) -> None:
        super().__init__(16)
        downsample = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))
        self.stem, self.first, self.second = conv(3, 8), BasicBlock(8, 8), BasicBlock(8, 16, 2, downsample)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.second(self.first(self.stem(x))))


class InPlace(Head):
    """A shortcut that is written into: whoever reads it later reads what was written."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True)
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.first(self.relu(x))
        y += x
        return self.classify(self.second(F.relu_(y)).add_(x))


class Repeated(Head):
    """A residual branch whose layers are called three times."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem = conv(3, 8)
        self.widen, self.narrow = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = x + self.narrow(torch.relu(self.widen(x)))
        return self.classify(x)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "padded shortcuts": lambda: CifarResNet(1, num_classes=5),
    "projected shortcuts": Projected,
    "concatenation": Branches,
    "depthwise and grouped": Grouped,
    "squeeze-excite": SqueezeExcite,
    "flatten": Flat,
    "two inputs": TwoInputs,
    "tuple": Pair,
    "shuffle": Shuffled,
    "shared layers": Repeated,
}


def as_if_trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode, its BatchNorms with statistics, scales and shifts of their own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for name, low, high in (("weight", 0.7, 1.3), ("bias", -0.3, 0.3), ("running_mean", -0.2, 0.2)):
                    value = getattr(module, name)
                    value.copy_(low + (high - low) * torch.rand(value.shape, generator=generator))
                assert module.running_var is not None
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    return model.eval()


def build(name: str, seed: int = 0) -> nn.Module:
    """One of NETWORKS."""
    torch.manual_seed(seed)
    return as_if_trained(NETWORKS[name](), seed)


def images(count: int = 4, size: int = 16, seed: int = 1, vector: bool = False) -> tuple[Tensor, ...]:
    """Smooth random images, and a vector each where wished."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 3, size, size, generator=generator)
    pictures = F.avg_pool2d(noise, 3, 1, 1) * 2 + torch.randn(count, 3, 1, 1, generator=generator)
    return (pictures, torch.randn(count, 6, generator=generator)) if vector else (pictures,)


def inputs_of(name: str, count: int = 4, seed: int = 1) -> tuple[Tensor, ...]:
    """Inputs for one of NETWORKS."""
    return images(count, seed=seed, vector=name == "two inputs")


def space_of(model: nn.Module, inputs: tuple[Tensor, ...], *kinds: str, ignored: tuple[str, ...] = ()) -> Space:
    """The model's space."""
    task = SimpleNamespace(model=model, example_inputs=inputs, ignored_layers=ignored)
    return find_space(task, kinds or ("width", "rank", "bits", "depth"))


def filters_of(model: nn.Module, inputs: tuple[Tensor, ...], most_bits: int = 8, least_bits: int = 2) -> FilterSpace:
    """The model's filters and layers as 0/1 variables."""
    task = SimpleNamespace(model=model, example_inputs=inputs, ignored_layers=())
    return find_filters(task, most_bits, least_bits)


class Chain(nn.Module):
    """Three filters and two between an image and two classes: few enough variables to try all of their values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 1)
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))


def chain(seed: int = 0) -> nn.Module:
    """A `Chain`."""
    torch.manual_seed(seed)
    return Chain().eval()
