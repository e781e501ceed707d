"""Convolutions, pooling and what else works on images."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np

from minidl import ops

from op_cases.samples import Case, Edge, Kink, distinct, images, one_of, pair

# ---------------------------------------------------------------- convolution


def convolved(x, w, b=0, stride=1, padding=0):
    """The windows of the image with its zeros, one after the other."""
    size, stride = w.shape[:2], pair(stride)
    if padding == "same":
        totals = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(x.shape[1:3], size, stride, strict=True)]
        zeros = [(total // 2, total - total // 2) for total in totals]
    else:
        zeros = [(n, n) for n in pair(0 if padding == "valid" else padding)]
    x = np.pad(x, ((0, 0), *zeros, (0, 0)))
    y = np.empty((len(x), *(1 + (n - k) // s for n, k, s in zip(x.shape[1:3], size, stride, strict=True)), w.shape[3]))
    for p, q in np.ndindex(y.shape[1:3]):
        i, j = p * stride[0], q * stride[1]
        y[:, p, q] = np.tensordot(x[:, i : i + size[0], j : j + size[1]], w, 3) + b
    return y


def filters(data, rng, x):
    """Draw filters for x, of up to 3 × 3 pixels, and in half of the cases biases."""
    w = rng.standard_normal((data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), x.shape[3], 2))
    return (x, w, rng.standard_normal(2)) if data.draw(st.booleans()) else (x, w)


def conv2d(data, rng):
    inputs = filters(data, rng, images(data, rng, least=3))
    return inputs, one_of(data, stride=[1, 2, (2, 1), (1, 3), 3], padding=[0, 1, (0, 2), (3, 1), "same", "valid"])


def spread(x, w, b=0, stride=1, padding=0, output_padding=0):
    """Each pixel times the filters, added to the window of the result that it is spread over."""
    size, stride = w.shape[:2], pair(stride)
    if padding == "same":
        cut = [max(0, k - s) // 2 for k, s in zip(size, stride, strict=True)]
        extents = [n * s for n, s in zip(x.shape[1:3], stride, strict=True)]
    else:
        cut = pair(0 if padding == "valid" else padding)
        sides = zip(x.shape[1:3], stride, size, cut, pair(output_padding), strict=True)
        extents = [(n - 1) * s + k - 2 * c + more for n, s, k, c, more in sides]
    whole = np.zeros(
        (len(x), *(n * s + k + more for n, s, k, more in zip(x.shape[1:3], stride, size, cut, strict=True)), w.shape[3])
    )
    for r, t, i, j in np.ndindex(*x.shape[1:3], *size):
        whole[:, r * stride[0] + i, t * stride[1] + j] += x[:, r, t] @ w[i, j]
    return whole[:, cut[0] : cut[0] + extents[0], cut[1] : cut[1] + extents[1]] + b


def conv_transpose2d(data, rng):
    inputs = filters(data, rng, images(data, rng))
    stride, output_padding = data.draw(st.sampled_from([(1, 0), (2, 1), (2, 0), ((3, 1), (2, 0)), ((1, 2), (0, 1))]))
    paddings = ["valid", (0, 0)] if output_padding else ["valid", "same"]
    paddings += [(0, 1)] if inputs[1].shape[1] == 3 else []
    padding = data.draw(st.sampled_from(paddings))
    return inputs, {"stride": stride, "padding": padding, "output_padding": output_padding}


CONVOLUTION = (
    Edge(((1, 1, 1, 1), (1, 1, 1, 1))),
    Edge(((0, 4, 4, 2), (3, 3, 2, 5))),
    Edge(((0, 4, 4, 2), (3, 3, 2, 5), (5,)), {"stride": 2, "padding": "same"}),
    Edge(((2, 0, 4, 1), (1, 1, 1, 1)), {"padding": 1}, refused="expected images of at least one pixel"),
    Edge(((2, 4, 4, 1), (0, 1, 1, 1)), refused="expected a window of at least 1 × 1"),
    Edge(((2, 4, 4, 0), (3, 3, 0, 5)), refused="expected a window of at least 1 × 1, a channel and a filter"),
    Edge(((2, 4, 4, 2), (3, 3, 2, 0)), refused="expected a window of at least 1 × 1, a channel and a filter"),
)

# ---------------------------------------------------------------- pooling


def by_windows(function):
    """The oracle that maps the windows (N, kh, kw, C) to the pixels of the result."""

    def pooled(x, size, stride=None):
        (kh, kw), (sh, sw) = pair(size), pair(size if stride is None else stride)
        rows, columns = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], (kh, kw), (sh, sw), strict=True))
        pixels = [
            [function(x[:, p * sh : p * sh + kh, q * sw : q * sw + kw]) for q in range(columns)] for p in range(rows)
        ]
        return np.moveaxis(np.array(pixels), 2, 0)

    return pooled


def in_a_row(window):
    return window.reshape(len(window), window.shape[1] * window.shape[2], window.shape[3])


def pooling(op, function, *kinks, values=lambda rng, size: rng.standard_normal(size), analytic=False):
    def arguments(data, rng):
        x = values(rng, images(data, rng, least=3).shape)
        return (x,), one_of(data, size=[1, 2, 3, (2, 3)], stride=[None, 1, 2, (2, 1)])

    edges = (
        Edge(((1, 1, 1, 1),), {"size": 1}),
        Edge(((0, 4, 4, 2),), {"size": 2}),
        Edge(((2, 4, 4, 0),), {"size": 2, "stride": 1}),
        Edge(((2, 0, 4, 1),), {"size": 1}, refused=r"size is \(1, 1\), larger than x with shape \(2, 0, 4, 1\)"),
    )
    return Case(op, by_windows(function), arguments, edges, kinks, analytic=analytic)


# ---------------------------------------------------------------- upsampling


def upsample2d(data, rng):
    settings = one_of(data, scale=[1, 2, 3, (1, 2), (3, 2)], mode=["nearest", "bilinear"])
    return (images(data, rng),), settings


def enlarged(x, scale, mode="nearest"):
    for axis, s in zip((1, 2), pair(scale), strict=True):
        x = np.moveaxis(x, axis, 0)
        places = np.arange(len(x) * s)
        if mode == "nearest":
            x = x[places // s]
        else:  # between the two nearest centres
            at = np.clip((places + 0.5) / s - 0.5, 0, len(x) - 1)
            low = np.floor(at).astype(int)
            share = (at - low).reshape(-1, 1, 1, 1)
            x = (1 - share) * x[low] + share * x[np.minimum(low + 1, len(x) - 1)]
        x = np.moveaxis(x, 0, axis)
    return x


def image(rows):
    return [[[[value] for value in row] for row in rows]]


CASES: dict[str, Case] = {
    "avg_pool2d": pooling(ops.avg_pool2d, lambda x: x.mean((1, 2)), analytic=True),
    "conv2d": Case(
        ops.conv2d,
        convolved,
        conv2d,
        (*CONVOLUTION, Edge(((2, 1, 4, 1), (2, 1, 1, 1)), refused="larger than x")),
        analytic=True,
    ),
    "conv_transpose2d": Case(ops.conv_transpose2d, spread, conv_transpose2d, CONVOLUTION, analytic=True),
    "max_pool2d": pooling(
        ops.max_pool2d,
        lambda x: x.max((1, 2)),
        Kink(
            (image([[2.0, 5.0, 5.0], [5.0, 1.0, 5.0]]),),
            image([[5, 5]]),
            (image([[0, 2, 0], [0, 0, 0]]),),
            {"size": 2, "stride": 1},
        ),
        values=distinct,
    ),
    "upsample2d": Case(
        ops.upsample2d,
        enlarged,
        upsample2d,
        tuple(
            Edge((size,), {"scale": 2, "mode": mode})
            for mode in ("nearest", "bilinear")
            for size in ((1, 1, 1, 1), (0, 2, 2, 1), (1, 0, 2, 1), (2, 2, 2, 0))
        ),
        analytic=True,
    ),
    "windows2d": pooling(ops.windows2d, in_a_row, analytic=True),
}
