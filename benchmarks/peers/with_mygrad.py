import mygrad as mg
from mygrad.nnet import conv_nd, relu, softmax_crossentropy
from serve import serve


def build(weights, rate, momentum):
    W = {name: mg.tensor(w if name.endswith("weight") else w.copy()) for name, w in weights.items()}
    velocities = dict.fromkeys(W, 0)

    def convolution(x, layer):
        return conv_nd(x, W[layer + ".weight"], stride=1) + W[layer + ".bias"].reshape(1, -1, 1, 1)

    def average_pool(x):
        n, c, h, w = x.shape
        return x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))

    def dense(x, layer):
        return x @ W[layer + ".weight"] + W[layer + ".bias"]

    def step(x, labels):
        h = average_pool(relu(convolution(mg.tensor(x, constant=True), "conv1")))
        h = average_pool(relu(convolution(h, "conv2"))).reshape(len(x), -1)
        h = relu(dense(relu(dense(h, "dense1")), "dense2"))
        loss = softmax_crossentropy(dense(h, "dense3"), labels)
        loss.backward()
        for name, w in W.items():
            velocities[name] = momentum * velocities[name] + w.grad
            w.data -= rate * velocities[name]
        return loss.item()

    return step


serve(build, "mygrad")
