from serve import serve
from tinygrad import Context, Tensor, TinyJit, nn


def build(weights, rate, momentum):
    W = {name: Tensor(w).realize() for name, w in weights.items()}
    optimizer = nn.optim.SGD(list(W.values()), lr=rate, momentum=momentum)

    def convolution(x, layer):
        return x.conv2d(W[layer + ".weight"], W[layer + ".bias"])

    def dense(x, layer):
        return x @ W[layer + ".weight"] + W[layer + ".bias"]

    @TinyJit
    @Context(TRAINING=1)
    def train(x, labels):
        optimizer.zero_grad()
        h = convolution(x, "conv1").relu().avg_pool2d(2)
        h = convolution(h, "conv2").relu().avg_pool2d(2).flatten(1)
        h = dense(dense(h, "dense1").relu(), "dense2").relu()
        loss = dense(h, "dense3").sparse_categorical_crossentropy(labels).backward()
        return loss.realize(*optimizer.schedule_step())

    def step(x, labels):
        return train(Tensor(x).realize(), Tensor(labels).realize()).item()

    return step


serve(build, "tinygrad")
