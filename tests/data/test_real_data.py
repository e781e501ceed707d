"""The real files: complete, and to the last bit what was published."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest

from minidl import data
from minidl.data import inventory, places, sources

from data_files import cifar_batch

pytestmark = pytest.mark.data


@pytest.mark.parametrize(
    ("name", "first_labels", "mean", "deviation"),
    [("mnist", [5, 0, 4, 1], 0.1307, 0.3081), ("fashion-mnist", [9, 0, 0, 3], 0.2860, 0.3530)],
)
def test_mnist_and_its_kin_are_complete(name, first_labels, mean, deviation):
    dataset = data.load(name)
    assert dataset.train_x.shape == (60_000, 28, 28, 1)
    assert dataset.test_x.shape == (10_000, 28, 28, 1)
    assert dataset.train_x.dtype == np.uint8
    assert dataset.train_y[:4].tolist() == first_labels
    assert np.bincount(dataset.test_y).size == len(dataset.classes) == 10
    assert dataset.train_x.mean(dtype=np.float64) / 255 == pytest.approx(mean, abs=1e-4)
    assert dataset.train_x.std(dtype=np.float64) / 255 == pytest.approx(deviation, abs=1e-4)
    assert data.load(name, fraction=1 / 8).train_x.shape == (7_500, 28, 28, 1)


@pytest.mark.slow
def test_cifar10_is_complete_and_costs_no_floats():
    tracemalloc.start()
    dataset = data.load("cifar10")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 450e6, "the images alone are 184 MB, 737 MB as floats"
    assert dataset.train_x.shape == (50_000, 32, 32, 3)
    assert dataset.test_x.shape == (10_000, 32, 32, 3)
    assert dataset.train_x.nbytes + dataset.test_x.nbytes == 184_320_000
    assert np.bincount(dataset.train_y).tolist() == [5_000] * 10
    assert [dataset.classes[label] for label in dataset.train_y[:3]] == ["frog", "truck", "truck"]
    mean = dataset.train_x.reshape(-1, 3).mean(axis=0) / 255
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=1e-4)  # as everybody has it
    for i, (part, checksum) in enumerate(sources.CIFAR_10.parts.items()):  # the files again, from what was read
        rows = slice(10_000 * i, 10_000 * (i + 1))
        x, y = (dataset.test_x, dataset.test_y) if i == 5 else (dataset.train_x[rows], dataset.train_y[rows])
        assert "sha256:" + hashlib.sha256(cifar_batch(x, y[:, None])).hexdigest() == checksum, part


def test_the_subset_of_cifar100_is_balanced():
    found = places.find(sources.CIFAR_100)
    if found is None or found.source is sources.CIFAR_100:
        pytest.skip("there is no cifar100-subset, or there is the whole")
    with pytest.warns(UserWarning, match=r"only a subset is there, 8,000 \+ 2,000 of 50,000 \+ 10,000 images"):
        dataset = data.load("cifar100")
    assert np.bincount(dataset.train_y).tolist() == [80] * 100
    assert np.bincount(dataset.test_y).tolist() == [20] * 100
    assert [dataset.classes[label] for label in dataset.train_y[:3]] == ["cattle", "dinosaur", "apple"]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar100"])
def test_the_contents_have_the_published_checksums(name):
    found = places.find(sources.SOURCES[name])
    if found is None:
        pytest.skip(f"{name} is not here")
    verdicts = inventory.verdicts(found)
    assert len(verdicts) == len(found.paths)
    assert all(verdict.good for verdict in verdicts), verdicts


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_files_themselves_have_the_checksums_that_downloads_are_held_to(name):
    found = places.find(sources.SOURCES[name])
    published = {file.name: file for file in found.source.downloads}
    for path in found.paths.values():
        content = path.read_bytes()
        assert len(content) == published[path.name].size
        assert "sha256:" + hashlib.sha256(content).hexdigest() == published[path.name].checksum
