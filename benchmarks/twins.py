"""The models of minidl in PyTorch, layer by layer in the same order, channels first."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

# ---------------------------------------------------------------- arrays


def channels_first(x: Any) -> Any:
    """Return images (N, H, W, C) as PyTorch's (N, C, H, W); anything else as it is."""
    return torch.from_numpy(x).movedim(-1, 1).contiguous() if x.ndim == 4 else torch.tensor(x)


def outputs_first(w: Any) -> Any:
    """Return weights (kh, kw, in, out) as PyTorch's (out, in, kh, kw), or (in, out) as (out, in)."""
    return torch.tensor(w.transpose(3, 2, 0, 1).copy() if w.ndim == 4 else w.T.copy())


def weights_of(model: Any, flattened: tuple[int, int, int] | None = None) -> list[Any]:
    """Return the weights of minidl's model as its twin has them.

    `flattened` is the (height, width, channels) of the images that become vectors before the first dense layer of this
    size: their pixels have another order there.
    """
    weights = []
    for parameter in model.parameters():
        w = parameter.numpy()
        if flattened and w.ndim == 2:
            w = w.reshape(*flattened, -1).transpose(2, 0, 1, 3).reshape(w.shape)
            flattened = None
        weights.append(outputs_first(w))
    return weights


# ---------------------------------------------------------------- networks


def lenet5(dropout: float) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(120, 84), nn.ReLU(), nn.Dropout(dropout), nn.Linear(84, 10)),
    )


def mlp(*sizes: int) -> nn.Module:
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def cifar_cnn(dropout: float) -> nn.Module:
    def pair(a: int, b: int) -> list[nn.Module]:
        convolutions = nn.Conv2d(a, b, 3, padding=1), nn.Conv2d(b, b, 3, padding=1)
        return [convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(dropout)]

    return nn.Sequential(
        *(*pair(3, 32), *pair(32, 64), nn.Flatten()),
        *(nn.Linear(4096, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, 10)),
    )


def _conv_norm(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)]


class _Block(nn.Module):
    """He et al. 2016, with the shortcut of option A: every second pixel, and further channels of zeros."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride, self.added = (1, 0) if inputs == outputs else (2, outputs - inputs)
        self.way = nn.Sequential(*_conv_norm(inputs, outputs, self.stride), nn.ReLU(), *_conv_norm(outputs, outputs))

    def forward(self, x: Any) -> Any:
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added)) if self.added else x
        return F.relu(self.way(x) + shortcut)


def resnet(depth: int) -> nn.Module:
    widths = [width for width in (16, 32, 64) for _ in range((depth - 2) // 6)]
    blocks = [_Block(a, b) for a, b in itertools.pairwise([16, *widths])]
    ending = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    return nn.Sequential(*_conv_norm(3, 16), nn.ReLU(), *blocks, *ending)


class _Layer(nn.Module):
    """Huang et al. 2017, with bottlenecks."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.new_features = nn.Sequential(
            *(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 4 * growth, 1, bias=False)),
            *(nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)),
        )

    def forward(self, x: Any) -> Any:
        return torch.cat([x, self.new_features(x)], dim=1)


def densenet_bc(depth: int, growth: int) -> nn.Module:
    layers, width = (depth - 4) // 6, 2 * growth
    parts: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    for block in range(3):
        if block:
            parts += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
            width //= 2
        parts += [_Layer(width + i * growth, growth) for i in range(layers)]
        width += layers * growth
    parts += [nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*parts)
