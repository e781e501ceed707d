import autograd.numpy as np
from autograd import value_and_grad
from autograd.scipy.signal import convolve
from serve import serve


def loss(W, x, labels):
    def convolution(x, layer):
        w = W[layer + ".weight"][:, :, ::-1, ::-1]  # SciPy's convolution turns the kernel round
        y = convolve(x, w, axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid")
        return y + W[layer + ".bias"].reshape(1, -1, 1, 1)

    def average_pool(x):
        n, c, h, w = x.shape
        return np.mean(x.reshape(n, c, h // 2, 2, w // 2, 2), axis=(3, 5))

    def relu(x):
        return np.maximum(x, 0)

    def dense(x, layer):
        return x @ W[layer + ".weight"] + W[layer + ".bias"]

    h = average_pool(relu(convolution(x, "conv1")))
    h = average_pool(relu(convolution(h, "conv2"))).reshape(len(x), -1)
    z = dense(relu(dense(relu(dense(h, "dense1")), "dense2")), "dense3")
    z = z - np.max(z, axis=1, keepdims=True)
    log_p = z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    return -np.mean(log_p[np.arange(len(x)), labels])


def build(weights, rate, momentum):
    W, velocities = dict(weights), dict.fromkeys(weights, 0)
    loss_and_gradient = value_and_grad(loss)

    def step(x, labels):
        value, gradient = loss_and_gradient(W, x, labels)
        for name in W:
            velocities[name] = momentum * velocities[name] + gradient[name]
            W[name] = W[name] - rate * velocities[name]
        return value

    return step


serve(build, "autograd")
