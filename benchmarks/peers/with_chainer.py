import chainer.functions as F
import chainer.links as L
from chainer import Chain, optimizers
from serve import serve


class LeNet5(Chain):
    def __init__(self, weights):
        super().__init__()
        with self.init_scope():
            self.conv1, self.conv2 = L.Convolution2D(1, 6, 5), L.Convolution2D(6, 16, 5)
            self.dense1, self.dense2, self.dense3 = L.Linear(256, 120), L.Linear(120, 84), L.Linear(84, 10)
        for name, w in weights.items():
            layer, kind = name.split(".")
            parameter = self[layer].W if kind == "weight" else self[layer].b
            parameter.array[...] = w.T if w.ndim == 2 else w

    def forward(self, x):
        h = F.average_pooling_2d(F.relu(self.conv1(x)), 2)
        h = F.average_pooling_2d(F.relu(self.conv2(h)), 2)
        return self.dense3(F.relu(self.dense2(F.relu(self.dense1(h)))))


def build(weights, rate, momentum):
    model = LeNet5(weights)
    optimizer = optimizers.MomentumSGD(lr=rate, momentum=momentum).setup(model)

    def step(x, labels):
        loss = F.softmax_cross_entropy(model(x), labels)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        return loss.array

    return step


serve(build, "chainer")
