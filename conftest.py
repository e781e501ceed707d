"""What the examples in docstrings may use without making it themselves: the option `--doctest-modules` runs them."""

import pytest


@pytest.fixture(autouse=True)
def _example(request, tmp_path_factory, monkeypatch):
    """Give every example the packages, a few digits, a model and its optimizer, and an empty folder to write to."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    from pathlib import Path

    import numpy as np

    import minidl as ml
    from minidl import backend, data, models, nn, ops, optim, studies, surfaces, training, viz
    from minidl.data import augment

    monkeypatch.chdir(tmp_path_factory.mktemp("example"))
    ml.manual_seed(0)
    digits = data.load("digits")
    x, y, test_x, test_y = digits.train_x[:100], digits.train_y[:100], digits.test_x[:50], digits.test_y[:50]
    model = models.mlp([64, 10])
    names = request.getfixturevalue("doctest_namespace")
    names |= {"np": np, "ml": ml, "Path": Path, "Tensor": ml.Tensor, "differentiable": ml.differentiable}
    names |= {"backend": backend, "data": data, "models": models, "nn": nn, "ops": ops, "optim": optim}
    names |= {"augment": augment, "studies": studies, "surfaces": surfaces, "training": training, "viz": viz}
    names |= {"digits": digits, "x": x, "y": y, "test_x": test_x, "test_y": test_y, "model": model}
    names |= {"optimizer": optim.SGD(model, lr=0.1), "loader": data.Loader(x, y, 50)}
