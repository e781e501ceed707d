"""A cache and a network of the test's own, and a small CIFAR-10."""

from __future__ import annotations

import dataclasses
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from minidl.data import sources

from data_files import cifar_batch


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's cache, and no download goes through a proxy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def small_cifar(monkeypatch):
    """CIFAR-10 with two images in each batch: the source, the images and labels, and the files."""
    source = dataclasses.replace(sources.CIFAR_10, train=10, test=2)
    monkeypatch.setitem(sources.SOURCES, "cifar10", source)
    rng = np.random.default_rng(1)
    images, labels = rng.integers(0, 256, (12, 32, 32, 3), np.uint8), rng.integers(0, 10, (12, 1))
    files = {
        part: cifar_batch(images[2 * i : 2 * i + 2], labels[2 * i : 2 * i + 2]) for i, part in enumerate(source.parts)
    }
    return SimpleNamespace(source=source, images=images, labels=labels[:, 0], files=files)


@pytest.fixture
def server():
    """A web server on this machine: put bytes into `files`; `asked` lists the paths that were asked for."""
    state = SimpleNamespace(files={}, asked=[], gate=threading.Event(), cut=False)
    state.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append(self.path)
            state.gate.wait(20)
            content = state.files.get(self.path.lstrip("/"))
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write((content or b"")[: 10 if state.cut else None])

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        state.url = f"http://127.0.0.1:{running.server_address[1]}"
        yield state
        state.gate.set()
        running.shutdown()
        thread.join()
