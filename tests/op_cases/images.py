"""Samples of convolutions, pooling and what else works on images."""

from __future__ import annotations

import hypothesis.strategies as st

from minidl import ops

from op_cases.samples import Case, Sample, distinct, images


def conv2d(data, rng):
    x = images(data, rng, least=3)
    w = rng.standard_normal((data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), x.shape[3], 2))
    stride = data.draw(st.sampled_from([1, 2, (2, 1), 3]))
    padding = data.draw(st.sampled_from([0, 1, (0, 2), "same", "valid"]))
    inputs = (x, w, rng.standard_normal(2)) if data.draw(st.booleans()) else (x, w)
    return Sample(lambda *a: ops.conv2d(*a, stride=stride, padding=padding), inputs)


def conv_transpose2d(data, rng):
    x = images(data, rng)
    w = rng.standard_normal((data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), x.shape[3], 2))
    stride, output_padding = data.draw(st.sampled_from([(1, 0), (2, 1), (2, 0), ((3, 1), (2, 0)), ((1, 2), (0, 1))]))
    paddings = ["valid", (0, 0)] if output_padding else ["valid", "same"]
    paddings += [(0, 1)] if w.shape[1] == 3 else []
    padding = data.draw(st.sampled_from(paddings))
    inputs = (x, w, rng.standard_normal(2)) if data.draw(st.booleans()) else (x, w)
    call = lambda *a: ops.conv_transpose2d(*a, stride=stride, padding=padding, output_padding=output_padding)
    return Sample(call, inputs)


def upsample2d(data, rng):
    scale = data.draw(st.sampled_from([1, 2, 3, (1, 2), (3, 2)]))
    mode = data.draw(st.sampled_from(["nearest", "bilinear"]))
    return Sample(lambda x: ops.upsample2d(x, scale, mode), (images(data, rng),))


def pooling(op, domain):
    def draw(data, rng):
        x = domain(rng, images(data, rng, least=3).shape)
        size = data.draw(st.sampled_from([1, 2, 3, (2, 3)]))
        stride = data.draw(st.sampled_from([None, 1, 2, (2, 1)]))
        return Sample(lambda a: op(a, size, stride), (x,))

    return draw


CASES: dict[str, Case] = {
    "avg_pool2d": Case(pooling(ops.avg_pool2d, lambda rng, size: rng.standard_normal(size)), analytic=True),
    "conv2d": Case(conv2d, analytic=True),
    "conv_transpose2d": Case(conv_transpose2d, analytic=True),
    "max_pool2d": Case(pooling(ops.max_pool2d, distinct)),
    "upsample2d": Case(upsample2d, analytic=True),
}
