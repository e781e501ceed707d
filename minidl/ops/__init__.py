"""Differentiable functions, forward and derivative side by side.

To add one, write a function on plain arrays that returns its result and one derivative for each input, decorate it
with `@differentiable`, and name it here; the gradient tests then ask for sample inputs.
"""

from minidl.ops.activations import elu, gelu, leaky_relu, log_softmax, relu, selu, sigmoid, softmax, softplus
from minidl.ops.arithmetic import add, divide, matmul, maximum, minimum, multiply, negative, power, subtract, where
from minidl.ops.convolution import conv2d, conv_transpose2d
from minidl.ops.dropout import alpha_dropout, dropout, gaussian_dropout
from minidl.ops.elementwise import abs, arctan, clip, cos, exp, log, sin, sqrt, tanh
from minidl.ops.losses import cross_entropy, mse
from minidl.ops.normalization import batch_norm, spectral_normalize, standardize
from minidl.ops.pooling import avg_pool2d, max_pool2d, windows2d
from minidl.ops.reductions import max, mean, min, sum
from minidl.ops.shaping import broadcast_to, concatenate, getitem, join, pad, reshape, stack, transpose
from minidl.ops.smoothing import diffuse2d, residual_smoothing
from minidl.ops.upsampling import upsample2d

__all__ = [
    "abs", "add", "alpha_dropout", "arctan", "avg_pool2d", "batch_norm", "broadcast_to", "clip", "concatenate",
    "conv2d", "conv_transpose2d", "cos", "cross_entropy", "diffuse2d", "divide", "dropout", "elu", "exp",
    "gaussian_dropout", "gelu", "getitem", "join", "leaky_relu", "log", "log_softmax", "matmul", "max",
    "max_pool2d", "maximum", "mean", "min", "minimum", "mse", "multiply", "negative", "pad", "power", "relu",
    "reshape", "residual_smoothing", "selu", "sigmoid", "sin", "softmax", "softplus", "spectral_normalize", "sqrt",
    "stack", "standardize", "subtract", "sum", "tanh", "transpose", "upsample2d", "where", "windows2d",
]  # fmt: skip
