from serve import serve

from minidl import models, ops, optim


def build(weights, rate, momentum):
    model = models.lenet5(dropout=0)
    model.load_state_dict(weights)
    optimizer = optim.HeavyBall(model, lr=rate, beta=momentum)

    def step(x, labels):
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


serve(build, "minidl", channels_first=False)
