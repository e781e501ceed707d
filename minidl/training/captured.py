"""Training steps as CUDA graphs: on small networks it takes longer to launch the kernels than to run them.

The first step with batches of some shape is made as always. The second is captured: its code runs, but what it would
launch becomes a graph instead, which is then launched as a whole, for this step and all that follow. A graph repeats
the same kernels on the same memory. So what differs from step to step lies in memory that is written before each
launch: the batch, the rate, the number of the step, the progress of the training, and a key for each random mask.

A step is two graphs, because the host reads the loss between them: one makes the loss and the gradients, the other the
update, and a step whose loss is no number is not made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import backend, nn
from minidl.optim import Optimizer
from minidl.training.diagnosis import Rewind

KEYS = 1024  # random masks in a step

Loss = Callable[[Any, Any, Any], Any]  # of outputs, labels and progress, as a Tensor


class CapturedSteps:
    """Makes the steps of a training, captured by the shape of the batch.

    Parameters
    ----------
    model : nn.Module
    optimizer : Optimizer
    loss : callable
        Of outputs, labels and progress.
    rewind : Rewind
        Is given what the model's buffers were before a step.

    Raises
    ------
    RuntimeError
        If the current device is not the GPU.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, loss: Loss, rewind: Rewind) -> None:
        if backend.device() != "gpu":
            raise RuntimeError("Trainer: capture is for the GPU, and the device is the CPU: ml.use_device('gpu') first")
        self.model, self.optimizer, self.loss, self.rewind = model, optimizer, loss, rewind
        self.stream = backend.current_module().cuda.Stream(non_blocking=True)  # the default stream cannot capture
        self._steps: dict[Any, _CapturedStep | None] = {}

    @contextlib.contextmanager
    def in_stream(self) -> Any:
        """Let all that is launched in this context go to the stream of the graphs, after what was launched before."""
        with self.stream:
            self.follow()
            try:
                yield
            finally:
                self.stream.synchronize()

    def follow(self) -> None:
        """Let the stream wait for what the default stream has been given: batches that another thread has made."""
        cuda = backend.current_module().cuda
        event = cuda.Event(disable_timing=True)
        event.record(cuda.Stream.null)
        self.stream.wait_event(event)

    def find(self, x: Any, y: Any) -> _CapturedStep | None:
        """Return the captured step for such a batch; None if one is to be made as always."""
        key = self._key(x, y)
        if key not in self._steps:
            self._steps[key] = None
            return None
        step = self._steps[key]
        if step is None or not step.valid:
            step = self._steps[key] = _CapturedStep(self, x, y)
        return step

    def _key(self, x: Any, y: Any) -> Any:
        """Return all that a graph has frozen and that may change: shapes, settings of the optimizer, frozen layers."""
        settings = [v for k, v in vars(self.optimizer).items() if type(v) in (int, float, bool, str) and k != "t"]
        learning = [tensor.requires_grad for tensor in self.optimizer.params]
        return x.shape, x.dtype, y.shape, y.dtype, *settings, *learning


class _CapturedStep:
    """The two graphs of a step, and the memory that they read and write."""

    def __init__(self, steps: CapturedSteps, x: Any, y: Any) -> None:
        cupy = backend.current_module()
        self._steps = steps
        self._pool = cupy.cuda.MemoryPool()  # of its own: nobody else may use what a graph writes to
        self._generators: list[np.random.Generator] = []
        with cupy.cuda.using_allocator(self._pool.malloc):
            self.x, self.y = x.copy(), y.copy()
            self._numbers = cupy.zeros(3, np.float64)
            self._keys = cupy.zeros(KEYS, np.uint64)
            self._capture()
        self._arrays = self._fixed()

    def _capture(self) -> None:
        steps, stream = self._steps, self._steps.stream
        progress, rate, t = self._numbers[0], self._numbers[1], self._numbers[2]
        done = steps.optimizer.t

        def closure() -> None:
            self._saved = steps.rewind.buffers()
            outputs = steps.model(self.x)
            loss = steps.loss(outputs, self.y, progress)
            loss.backward()
            self.outputs, self._loss = nn.main_output(outputs).data, loss.data
            self._gradients = stream.end_capture()
            stream.begin_capture()

        stream.begin_capture()
        try:
            with backend.capturable(self._key):
                steps.optimizer.step(closure, numbers=(rate, t))
        except BaseException:
            with contextlib.suppress(Exception):  # the capture is broken already; its own error says less
                stream.end_capture()
            raise
        finally:
            steps.optimizer.t = done  # nothing has been computed
        self._update = stream.end_capture()

    def _key(self, generator: np.random.Generator) -> Any:
        """Return memory for a key that is drawn from this generator before each launch."""
        if len(self._generators) == KEYS:
            raise RuntimeError(f"Trainer: a step with more than {KEYS} random masks cannot be captured")
        self._generators.append(generator)
        return self._keys[len(self._generators) - 1]

    def gradients(self, x: Any, y: Any, progress: float) -> float:
        """Launch the first graph: make the gradients of a batch. Return the loss, the only number that is fetched."""
        optimizer = self._steps.optimizer
        self._steps.rewind.values = self._saved
        self.x[...], self.y[...] = x, y
        self._numbers.set(np.array([progress, optimizer.rate or 0, optimizer.t + 1]))
        if self._generators:
            keys = np.zeros(KEYS, np.uint64)
            keys[: len(self._generators)] = [backend.device_key(generator) for generator in self._generators]
            self._keys.set(keys)
        self._gradients.launch()
        return float(self._loss.item())

    def update(self) -> None:
        """Launch the second graph: make the update."""
        self._update.launch()
        self._steps.optimizer.stepped()

    @property
    def valid(self) -> bool:
        """Whether the model and the optimizer still have the memory that the graphs know."""
        return all(now is then for now, then in zip(self._fixed(), self._arrays, strict=True))

    def _fixed(self) -> list[Any]:
        optimizer = self._steps.optimizer
        state = [getattr(optimizer, name) for name in optimizer.state]
        return [*(tensor.data for _, tensor in self._steps.model.named_buffers()), *state]
