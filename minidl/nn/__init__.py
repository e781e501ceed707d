"""Layers, losses and what they are built from."""

from minidl.nn import initializers
from minidl.nn.activations import ELU, GELU, SELU, Activation, LeakyReLU, ReLU, Sigmoid, Softmax, Softplus, Tanh
from minidl.nn.annealing import Annealing, LaplaceAnnealing, LogisticAnnealing
from minidl.nn.branches import AuxiliaryHeads, Concatenate, Identity, Residual
from minidl.nn.dropout import AlphaDropout, Dropout, GaussianDropout, MaxDrop, PoolingDropout, SpatialDropout2d
from minidl.nn.initialization import initialize
from minidl.nn.layers import Conv2d, ConvTranspose2d, Dense
from minidl.nn.losses import MSE, CrossEntropy, LabelSmoothing, Loss, WithAuxiliary
from minidl.nn.module import Module, Sequential, evaluating, main_output, observe
from minidl.nn.normalization import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, SwitchableNorm
from minidl.nn.parameter import Buffer, Parameter
from minidl.nn.pooling import AvgPool2d, Flatten, GlobalAvgPool2d, MaxPool2d, Unflatten, Upsample2d
from minidl.nn.reparametrization import SpectralNorm, WeightStandardization
from minidl.nn.residual import DiffusionSmoothing2d, ResidualSmoothing, SquaredResidual

__all__ = [
    "ELU",
    "GELU",
    "MSE",
    "SELU",
    "Activation",
    "AlphaDropout",
    "Annealing",
    "AuxiliaryHeads",
    "AvgPool2d",
    "BatchNorm",
    "Buffer",
    "Concatenate",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropy",
    "Dense",
    "DiffusionSmoothing2d",
    "Dropout",
    "Flatten",
    "GaussianDropout",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Identity",
    "InstanceNorm",
    "LabelSmoothing",
    "LaplaceAnnealing",
    "LayerNorm",
    "LeakyReLU",
    "LogisticAnnealing",
    "Loss",
    "MaxDrop",
    "MaxPool2d",
    "Module",
    "Parameter",
    "PoolingDropout",
    "ReLU",
    "Residual",
    "ResidualSmoothing",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SpatialDropout2d",
    "SpectralNorm",
    "SquaredResidual",
    "SwitchableNorm",
    "Tanh",
    "Unflatten",
    "Upsample2d",
    "WeightStandardization",
    "WithAuxiliary",
    "evaluating",
    "initialize",
    "initializers",
    "main_output",
    "observe",
]
