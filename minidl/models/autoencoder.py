"""The convolutional autoencoder."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from minidl import nn
from minidl.ops.arguments import pair, positive_integer


def autoencoder(
    code: int = 32, channels: int = 1, size: int | tuple[int, int] = 28, widths: Sequence[int] = (16, 32)
) -> nn.Sequential:
    r"""Return an autoencoder: a network that learns to give back its input through a narrow place.

    .. math:: \hat x = D(E(x)), \qquad E:\ \mathbb R^{H \times W \times C} \to \mathbb R^{code}

    The encoder, `model.encoder`, halves the image with one 4 × 4 convolution of stride 2 for each width, with ReLU, and
    ends in a dense layer without an activation, the code. The decoder, `model.decoder`, is its mirror image: a dense
    layer, and transposed convolutions that double the image. A window of 4 halves and doubles exactly, and
    reaches every pixel equally often, because 2 divides it. The last activation is the sigmoid, for images in [0, 1].

    Parameters
    ----------
    code : int, default 32
        How many numbers stand for an image: `model.encoder(x)` is (N, code).
    channels : int, default 1
    size : int or (height, width), default 28
        Of the images: x and the output are (N, height, width, channels). Both can be halved for each width.
    widths : sequence of int, default (16, 32)
        The filters of the encoder's convolutions; the decoder's, backwards.

    Raises
    ------
    ValueError
        If the image cannot be halved so often, or another argument is out of range.

    Examples
    --------
    >>> model = models.autoencoder(code=8, size=8)
    >>> trainer = training.Trainer(model, optim.Adam(model), nn.MSE(), progress=False)
    >>> history = trainer.fit(data.Loader(x, x, batch_size=64), epochs=2)
    >>> model.encoder(x).shape
    (100, 8)

    Notes
    -----
    Hinton and Salakhutdinov 2006, whose layers are dense, pretrained one by one, and end in the logistic function too;
    the convolutions are today's form, the sizes our choice: 118,913 parameters with the defaults, 151,139 for
    32 × 32 × 3. The residual :math:`\hat x - x` has the shape of an image: R names such residuals as the place for
    smoothing by the Laplacian.
    """
    if not isinstance(widths, Sequence) or not widths:
        raise ValueError(f"autoencoder: widths is {widths!r}, expected the filters of at least one convolution")
    height, width = pair(size, "autoencoder", "size", 1)
    factor = 2 ** len(widths)
    if height % factor or width % factor:
        raise ValueError(
            f"autoencoder: size is {size}, expected multiples of {factor}, to be halved {len(widths)} times"
        )
    code = positive_integer(code, "autoencoder", "code")
    encoder: dict[str, nn.Module] = {}
    decoder: dict[str, nn.Module] = {}
    steps = list(itertools.pairwise([channels, *widths]))
    for i, (inputs, outputs) in enumerate(steps, 1):
        encoder |= {f"conv{i}": nn.Conv2d(inputs, outputs, 4, 2, 1), f"relu{i}": nn.ReLU()}
    for i, (outputs, inputs) in enumerate(reversed(steps), 1):
        last = i == len(steps)
        init = "lecun_normal" if last else "he_normal"
        decoder[f"conv{i}"] = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, init=init)
        decoder["sigmoid" if last else f"relu{i}"] = nn.Sigmoid() if last else nn.ReLU()
    smallest = height // factor, width // factor, widths[-1]
    features = smallest[0] * smallest[1] * smallest[2]
    return nn.Sequential(
        encoder=nn.Sequential(**encoder, flatten=nn.Flatten(), dense=nn.Dense(features, code, init="lecun_normal")),
        decoder=nn.Sequential(
            dense=nn.Dense(code, features), relu=nn.ReLU(), unflatten=nn.Unflatten(smallest), **decoder
        ),
    )
