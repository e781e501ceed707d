"""What is measured, and how large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FEW = 16  # channels up to which a convolution shall be as fast as cuDNN's, and beyond which 0.7 times as fast


@dataclass(frozen=True)
class Layer:
    """A convolution of images (N, H, W, C) to so many outputs, with half of its size as padding."""

    network: str
    images: tuple[int, int, int, int]
    outputs: int
    size: int = 3
    stride: int = 1

    def __str__(self) -> str:
        count, height, width, channels = self.images
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        size = f"{self.size}×{self.size}"
        return f"{self.network}, {size}, {channels} → {self.outputs}, {count}×{height}×{width}{stride}"

    @property
    def padding(self) -> int:
        return self.size // 2

    @property
    def result(self) -> tuple[int, int, int, int]:
        """The shape of the result."""
        count, *extent, _ = self.images
        height, width = ((n + 2 * self.padding - self.size) // self.stride + 1 for n in extent)
        return count, height, width, self.outputs

    @property
    def kernel(self) -> tuple[int, int, int, int]:
        """The shape of the weights."""
        return self.size, self.size, self.images[3], self.outputs

    @property
    def few_channels(self) -> bool:
        return min(self.images[3], self.outputs) <= FEW


RESNET20 = tuple(
    Layer("ResNet-20", (128, *images), outputs, stride=stride)
    for images, outputs, stride in (
        ((32, 32, 3), 16, 1),
        ((32, 32, 16), 16, 1),
        ((32, 32, 16), 32, 2),
        ((16, 16, 32), 32, 1),
        ((16, 16, 32), 64, 2),
        ((8, 8, 64), 64, 1),
    )
)
VGG = tuple(
    Layer("VGG", (64, *images), outputs)
    for images, outputs in (
        ((112, 112, 64), 64),
        ((56, 56, 64), 128),
        ((56, 56, 128), 128),
        ((28, 28, 256), 256),
        ((14, 14, 512), 512),
    )
)


@dataclass(frozen=True)
class Plan:
    """The sizes of all sections, and how long each side of a case is timed."""

    copies: tuple[int, ...] = (10**7, 2**27)  # numbers
    gemm: int = 8192
    layers: tuple[Layer, ...] = RESNET20 + VGG
    images: tuple[int, int, int, int] = (64, 56, 56, 64)  # for pooling, normalization and dropout
    logits: tuple[int, int] = (2**14, 1000)
    products: tuple[tuple[int, int, int], ...] = ((128, 256, 120), (128, 512, 512), (1024, 1024, 1024))
    classes: tuple[int, ...] = (10, 100, 1_000, 10_000)  # of the smoothing layer
    residuals: int = 10**7  # numbers, in all samples together
    matrix_form: tuple[int, int] = (128, 1_000)  # samples and classes
    weights: int = 10**7
    optimizers: tuple[str, ...] = (
        *("SGD", "HeavyBall", "Nesterov", "AdaGrad", "RMSProp", "Adadelta"),
        *("Adam", "AdaMax", "Nadam", "AMSGrad"),
    )
    networks: tuple[tuple[str, int, float], ...] = (("LeNet-5", 128, 2.0), ("ResNet-20", 128, 1.0))  # batch, target
    rounds: int = 9
    seconds: float = 0.02  # of work on the device in a block
    step_seconds: float = 0.4  # of a block of training steps
    sets: int = 48  # of inputs, at most
    minutes: float = 8.0  # cases that would begin later are left out


FULL = Plan()
QUICK = Plan(
    gemm=4096,
    layers=(RESNET20[1], RESNET20[5], VGG[2]),
    classes=(10, 1_000),
    optimizers=("SGD", "Adam"),
    networks=(("LeNet-5", 128, 2.0),),
    rounds=3,
    seconds=0.005,
    step_seconds=0.1,
    minutes=0.7,
)
PLANS: dict[str, Any] = {"full": FULL, "quick": QUICK}
