"""Small datasets in the official formats."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile

import numpy as np


def encode_idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_files(train=5, test=3, seed=0):
    """Return the four files, compressed, by name."""
    rng, files = np.random.default_rng(seed), {}
    for part, count in (("train", train), ("t10k", test)):
        images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(encode_idx(images), mtime=0)
        files[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(encode_idx(labels), mtime=0)
    return files


def cifar_batch(images, labels):
    """Encode images (N, 32, 32, 3) and labels (N, 1) or, coarse before fine, (N, 2) as records."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels.astype(np.uint8), planes], axis=1).tobytes()


def tar_gz(files, folder="cifar-10-batches-bin/"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write(folder, files):
    """Write contents by name; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
