import dezero.functions as F
from dezero import Model, optimizers
from dezero import layers as L
from serve import serve


class LeNet5(Model):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = L.Conv2d(6, 5, in_channels=1), L.Conv2d(16, 5, in_channels=6)
        self.dense1, self.dense2 = L.Linear(120, in_size=256), L.Linear(84, in_size=120)
        self.dense3 = L.Linear(10, in_size=84)

    def forward(self, x):
        h = F.average_pooling(F.relu(self.conv1(x)), 2, 2)
        h = F.average_pooling(F.relu(self.conv2(h)), 2, 2)
        h = F.reshape(h, (len(h), -1))
        return self.dense3(F.relu(self.dense2(F.relu(self.dense1(h)))))


def build(weights, rate, momentum):
    model = LeNet5()
    for name, w in weights.items():
        layer, kind = name.split(".")
        getattr(getattr(model, layer), "W" if kind == "weight" else "b").data = w.copy()
    optimizer = optimizers.MomentumSGD(rate, momentum).setup(model)

    def step(x, labels):
        loss = F.softmax_cross_entropy(model(x), labels)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        return loss.data

    return step


serve(build, "dezero")
