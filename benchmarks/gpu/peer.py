"""PyTorch, beside which minidl is measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any


class Peer:
    """PyTorch on a device.

    Parameters
    ----------
    device : str, default "cuda"
    """

    def __init__(self, device: str = "cuda") -> None:
        import torch

        self.torch, self.device = torch, device
        self.F = torch.nn.functional
        torch.backends.cudnn.benchmark = True  # the fastest algorithm for each shape, found by trying

    def facts(self) -> dict[str, str]:
        cudnn = self.torch.backends.cudnn.version()
        return {"PyTorch": f"{self.torch.__version__}, CUDA {self.torch.version.cuda}, cuDNN {cudnn}"}

    def set_tf32(self, allowed: bool) -> None:
        self.torch.backends.cuda.matmul.allow_tf32 = allowed
        self.torch.backends.cudnn.allow_tf32 = allowed

    def tensor(self, array: Any) -> Any:
        """Return an array of CuPy's as a tensor with memory of its own."""
        return self.torch.from_dlpack(array).to(self.device).clone()

    def layouts(self, arrays: list[Any]) -> Iterator[tuple[str, list[Any]]]:
        """Yield images (N, H, W, C) and weights (kh, kw, C, K), and other arrays, in each memory layout of PyTorch's.

        Its shapes are (N, C, H, W) and (K, C, kh, kw) in both. Which one is faster differs from layer to layer.
        """
        last = self.torch.channels_last
        for name, layout in (("channels last", last), ("channels first", self.torch.contiguous_format)):
            yield name, [self.tensor(array).permute(0, 3, 1, 2).contiguous(memory_format=layout) for array in arrays]

    def weights(self, w: Any, like: Any) -> Any:
        """Return weights (kh, kw, C, K) as (K, C, kh, kw), in the memory layout of `like`."""
        last = like.is_contiguous(memory_format=self.torch.channels_last) and not like.is_contiguous()
        layout = self.torch.channels_last if last else self.torch.contiguous_format
        return self.tensor(w).permute(3, 2, 0, 1).contiguous(memory_format=layout)

    def backward(self, function: Callable[..., Any], *inputs: Any, g: Any) -> Callable[[], Any]:
        """Return a function that computes the gradients with respect to the inputs, again and again."""
        leaves = [x.detach().requires_grad_() for x in inputs]
        y = function(*leaves)
        return lambda: self.torch.autograd.grad(y, leaves, g, retain_graph=True)

    def release(self) -> None:
        if self.device == "cuda":
            self.torch.cuda.empty_cache()


def find() -> tuple[Peer | None, str]:
    """Return PyTorch if it can use the GPU; otherwise None and the reason."""
    if importlib.util.find_spec("torch") is None:
        return None, "PyTorch is not installed"
    try:
        import torch

        if not torch.cuda.is_available():
            return None, f"PyTorch {torch.__version__} finds no GPU"
        torch.zeros(1, device="cuda").item()
        return Peer(), ""
    except Exception as error:  # an installation that does not fit the driver raises what it likes
        return None, f"PyTorch cannot use the GPU: {type(error).__name__}: {error}"
