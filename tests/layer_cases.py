"""Sample layers: for each layer of `nn` how one is made, and the shape of an input."""

from __future__ import annotations

import numpy as np

import minidl as ml
from minidl import nn

IMAGE, FEATURES = (3, 6, 6, 4), (5, 4)

LAYERS = {
    "AlphaDropout": (lambda: nn.AlphaDropout(0.3), FEATURES),
    "AuxiliaryHeads": (lambda: nn.AuxiliaryHeads(nn.Sequential(a=nn.Tanh()), {"a": nn.Dense(4, 2)}).eval(), FEATURES),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), IMAGE),
    "BatchNorm": (lambda: nn.BatchNorm(4), IMAGE),
    "Concatenate": (lambda: nn.Concatenate(nn.Identity(), nn.Dense(4, 3)), FEATURES),
    "Conv2d": (lambda: nn.Conv2d(4, 3, 3, 2, "same"), IMAGE),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 3, 3, 2, 1, 1), IMAGE),
    "Dense": (lambda: nn.Dense(4, 3), FEATURES),
    "Dropout": (lambda: nn.Dropout(0.3), FEATURES),
    "ELU": (lambda: nn.ELU(0.7), FEATURES),
    "Flatten": (nn.Flatten, IMAGE),
    "GELU": (nn.GELU, FEATURES),
    "GaussianDropout": (lambda: nn.GaussianDropout(0.3), FEATURES),
    "GlobalAvgPool2d": (nn.GlobalAvgPool2d, IMAGE),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), IMAGE),
    "Identity": (nn.Identity, FEATURES),
    "InstanceNorm": (lambda: nn.InstanceNorm(4), IMAGE),
    "LayerNorm": (lambda: nn.LayerNorm(4), FEATURES),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.2), FEATURES),
    "MaxDrop": (lambda: nn.MaxDrop(3, stride=2), IMAGE),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2), IMAGE),
    "PoolingDropout": (lambda: nn.PoolingDropout(3, 0.3, "avg", 2), IMAGE),
    "ReLU": (nn.ReLU, FEATURES),
    "Residual": (lambda: nn.Residual(nn.Dense(4, 4)), FEATURES),
    "SELU": (nn.SELU, FEATURES),
    "Sequential": (lambda: nn.Sequential(nn.Dense(4, 3), nn.Tanh(), nn.Dense(3, 2)), FEATURES),
    "Sigmoid": (nn.Sigmoid, FEATURES),
    "Softmax": (nn.Softmax, FEATURES),
    "Softplus": (nn.Softplus, FEATURES),
    "SpatialDropout2d": (lambda: nn.SpatialDropout2d(0.3), IMAGE),
    "SpectralNorm": (lambda: nn.SpectralNorm(nn.Conv2d(4, 3, 3), iterations=100), IMAGE),
    "SwitchableNorm": (lambda: nn.SwitchableNorm(4), IMAGE),
    "Tanh": (nn.Tanh, FEATURES),
    "Unflatten": (lambda: nn.Unflatten((2, 2, 1)), FEATURES),
    "Upsample2d": (lambda: nn.Upsample2d(2, "bilinear"), IMAGE),
    "WeightStandardization": (lambda: nn.WeightStandardization(nn.Conv2d(4, 3, 3)), IMAGE),
}
FURTHER = {
    "BatchNorm, features": (lambda: nn.BatchNorm(4), FEATURES),
    "BatchNorm, ReLU": (lambda: nn.BatchNorm(4, relu=True), IMAGE),
    "Dropout, scaled in evaluation": (lambda: nn.Dropout(0.3, "eval"), IMAGE),
    "GELU, tanh": (lambda: nn.GELU("tanh"), FEATURES),
    "LayerNorm, images": (lambda: nn.LayerNorm(4), IMAGE),
    "PoolingDropout, max": (lambda: nn.PoolingDropout(3, 0.3, "max", 2), IMAGE),
    "SpectralNorm, standardized": (
        lambda: nn.WeightStandardization(nn.SpectralNorm(nn.Dense(4, 3), iterations=100)),
        FEATURES,
    ),
    "Upsample2d, nearest": (lambda: nn.Upsample2d((1, 3)), IMAGE),
}


def made(name, training, dtype=np.float64):
    """Return the layer, after one step of its statistics and with parameters that are not special, and an input."""
    make, shape = (LAYERS | FURTHER)[name]
    rng = np.random.default_rng(7)
    layer = make().astype(dtype)
    layer.train()(rng.standard_normal(shape).astype(dtype))
    for parameter in layer.parameters():
        parameter.data = parameter.data + 0.2 * rng.standard_normal(parameter.shape)
    return layer.train(training), (2 * rng.standard_normal(shape) + 0.5).astype(dtype)


def run(layer, state, x):
    """Run the layer from the same buffers and the same random numbers as every time."""
    ml.manual_seed(5)
    for name, buffer in layer.named_buffers():
        buffer.data = state[name]
    return nn.main_output(layer(x))
