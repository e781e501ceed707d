"""Known networks, built from `minidl.nn`."""

from minidl.models.autoencoder import autoencoder
from minidl.models.cifar_cnn import cifar_cnn
from minidl.models.densenet import densenet_bc
from minidl.models.lenet import lenet5
from minidl.models.mlp import mlp
from minidl.models.resnet import resnet
from minidl.models.small_cnn import small_cnn

__all__ = ["autoencoder", "cifar_cnn", "densenet_bc", "lenet5", "mlp", "resnet", "small_cnn"]
