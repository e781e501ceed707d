"""Module, the base of layers and models: it finds parameters, switches modes, saves and loads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from minidl import backend
from minidl.nn.parameter import Buffer, Parameter
from minidl.tensor import Tensor

Observer = Callable[["Module", Any], None]


class _Observers(threading.local):
    def __init__(self) -> None:
        self.active: list[Observer] = []


_observers = _Observers()


@contextlib.contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Call `observer(module, output)` after every forward pass of every module in this context.

    Examples
    --------
    >>> shapes = []
    >>> with nn.observe(lambda module, output: shapes.append((type(module).__name__, output.shape))):
    ...     output = model(x)
    >>> shapes
    [('Flatten', (100, 64)), ('Dense', (100, 10)), ('Sequential', (100, 10))]
    """
    _observers.active.append(observer)
    try:
        yield
    finally:
        _observers.active.remove(observer)


@contextlib.contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Switch to evaluation in this context; afterwards every module has the mode that it had before.

    Examples
    --------
    >>> net = nn.Sequential(nn.Dense(2, 2), nn.Dropout(0.5))
    >>> with nn.evaluating(net):
    ...     print(net[1].training)
    False
    >>> net[1].training
    True
    """
    modes = [(module, module.training) for _, module in model.named_modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode and not module.frozen


def main_output(outputs: Any) -> Any:
    """Return a model's output without its auxiliary ones."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _flattened(items: Iterable[tuple[Any, Any]]) -> Iterator[tuple[str, Any]]:
    for name, value in items:
        if isinstance(value, (list, tuple, dict)):
            inside = value.items() if isinstance(value, dict) else enumerate(value)
            yield from ((f"{name}.{inner}", item) for inner, item in _flattened(inside))
        else:
            yield str(name), value


class Module:
    """The base of layers and models: write `forward`, and keep parameters, buffers and modules as attributes.

    Attributes may also be lists, tuples or dicts of them. An attribute's name is its name in `named_parameters` and in
    the state dict, with dots between the levels: `"conv1.weight"`.

    Examples
    --------
    >>> class Linear(nn.Module):
    ...     def __init__(self):
    ...         self.weight = nn.Parameter(np.zeros((3, 2), np.float32))
    ...     def forward(self, x):
    ...         return x @ self.weight
    """

    training = True
    frozen = False

    def forward(self, x: Any) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no forward method")

    def __call__(self, *inputs: Any) -> Any:
        output = self.forward(*inputs)
        for observer in _observers.active:
            observer(self, output)
        return output

    # -- what is inside

    def _attributes(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, value) for the attributes, and for what is inside lists, tuples and dicts among them."""
        return _flattened(vars(self).items())

    def children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for the modules that are attributes of this one."""
        return ((name, value) for name, value in self._attributes() if isinstance(value, Module))

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for this module, named "", and all inside it, each once, outermost first."""
        seen: set[int] = set()

        def walk(name: str, module: Module) -> Iterator[tuple[str, Module]]:
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module
                for inner, child in module.children():
                    yield from walk(f"{name}.{inner}" if name else inner, child)

        return walk("", self)

    def _named(self, *kinds: type[Tensor]) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        names: set[str] = set()
        for path, module in self.named_modules():
            for name, value in module._attributes():
                if isinstance(value, kinds) and id(value) not in seen:
                    full = f"{path}.{name}" if path else name
                    if full in names:
                        raise ValueError(
                            f"{type(self).__name__}: two different parameters or buffers are named '{full}'"
                        )
                    seen.add(id(value))
                    names.add(full)
                    yield full, value

    def own_parameters(self) -> Iterator[Parameter]:
        """Yield the parameters that are attributes of this very module, not of one inside it."""
        return (value for _, value in self._attributes() if isinstance(value, Parameter))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield (name, parameter); a parameter that is used in two places comes once."""
        return self._named(Parameter)

    def parameters(self) -> Iterator[Parameter]:
        """Yield the parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Yield (name, buffer), such as running means."""
        return self._named(Buffer)

    # -- modes

    def train(self, mode: bool = True) -> Module:
        """Switch this module and all inside it to training (dropout drops, batch norm uses the batch); return it.

        Frozen modules stay in evaluation, unless something inside them is not.
        """
        if not mode:
            self._settle()
        for _, module in self.named_modules():
            module.training = mode and not all(inner.frozen for _, inner in module.named_modules())
        return self

    def eval(self) -> Module:
        """Switch to evaluation; return the module."""
        return self.train(False)

    def freeze(self) -> Module:
        """Keep this module and all inside it as they are while the rest learns; return it.

        Its parameters receive no gradients and no step of an optimizer moves them, not even by a penalty or by
        momentum; it stays in evaluation, so that dropout does not drop and running statistics do not move. An
        optimizer made afterwards does not know these parameters; `unfreeze` brings them back only to one that was made
        before. To make another optimizer over others of a model's parameters, delete the old one first.

        Examples
        --------
        >>> model = nn.Sequential(body=nn.Dense(3, 4), head=nn.Dense(4, 2))
        >>> body = model.body.freeze()
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['head.weight', 'head.bias']
        """
        return self._set_frozen(True)

    def unfreeze(self) -> Module:
        """Let this module and all inside it learn again, in training mode; return it.

        All its parameters require gradients then; what shall never learn is a `Buffer`.
        """
        return self._set_frozen(False)

    def _set_frozen(self, frozen: bool) -> Module:
        self._settle()
        for _, module in self.named_modules():
            module.frozen, module.training = frozen, not frozen
        for parameter in self.parameters():
            parameter.requires_grad = not frozen
            parameter.grad = None
        return self

    def _settle(self) -> None:
        """Bring parameters that an optimizer has moved to a look-ahead point back to the true iterate."""
        for parameter in self.parameters():
            parameter._settle()

    # -- saving and loading

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return copies of all parameters and buffers, as NumPy arrays by name."""
        self._settle()
        return {name: np.array(backend.to_numpy(tensor.data)) for name, tensor in self._named_state()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> list[str]:
        """Take over the values of a state dict.

        Parameters
        ----------
        state : dict of arrays
            As `state_dict` returns it.
        strict : bool, default True
            Whether missing, unexpected and unfitting entries are an error; otherwise the rest is loaded.

        Returns
        -------
        list of str
            What was passed over: empty, unless `strict` is False.

        Raises
        ------
        ValueError
            Naming every missing and unexpected entry, and those of another shape or without numbers; without `strict`
            only if nothing fits. Nothing has been loaded then.
        """
        if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
            raise TypeError(
                f"load_state_dict: state is {type(state).__name__}, expected a dictionary of arrays by name"
            )
        own = dict(self._named_state())
        values = {name: value.data if isinstance(value, Tensor) else value for name, value in state.items()}
        entries = {name: np.asarray(backend.to_numpy(value)) for name, value in values.items()}
        unfitting = {
            name: f"{name} has shape {entries[name].shape}, expected {tensor.shape}"
            if entries[name].shape != tensor.shape
            else f"{name} has dtype {entries[name].dtype}, expected real numbers"
            for name, tensor in own.items()
            if name in entries and (entries[name].shape != tensor.shape or entries[name].dtype.kind not in "fiub")
        }
        missing, unexpected = sorted(own.keys() - entries.keys()), sorted(entries.keys() - own.keys())
        faults = [f"missing: {', '.join(missing)}"] if missing else []
        faults += [f"unexpected: {', '.join(unexpected)}"] if unexpected else []
        faults += unfitting.values()
        fitting = own.keys() & entries.keys() - unfitting.keys()
        if faults and (strict or not fitting):
            raise ValueError(f"load_state_dict: {'; '.join(faults)}")
        for name in fitting:
            own[name].data = entries[name]
        return faults

    def _named_state(self) -> Iterator[tuple[str, Tensor]]:
        return self._named(Parameter, Buffer)

    def astype(self, dtype: Any) -> Module:
        """Convert all parameters and buffers to another floating-point dtype; return the module.

        Raises
        ------
        TypeError
            If `dtype` is not floating-point.
        RuntimeError
            If an optimizer already holds the parameters: convert first, then make the optimizer.
        """
        if np.dtype(dtype).kind != "f":
            raise TypeError(f"astype: dtype is {dtype}, expected a floating-point type")
        return self._converted(lambda values: values.astype(dtype), "astype: an optimizer holds {}; convert")

    def to(self, device: str) -> Module:
        """Move all parameters and buffers to a device, "cpu" or "gpu"; return the module.

        The current device (`ml.use_device`) stays what it is: what the module makes later, it makes there.

        Raises
        ------
        ValueError
            If `device` is neither.
        RuntimeError
            If the GPU cannot be used, or an optimizer already holds the parameters: move first, then make the
            optimizer.
        """
        if device not in ("cpu", "gpu"):
            raise ValueError(f"to: device is {device!r}, expected 'cpu' or 'gpu'")
        move = backend.to_numpy if device == "cpu" else backend.gpu_library("to").asarray
        return self._converted(move, "to: an optimizer holds {}; move")

    def _converted(self, convert: Callable[[Any], Any], held: str) -> Module:
        """Replace the values of all parameters and buffers, unless an optimizer holds some."""
        state = dict(self._named_state())
        names = [name for name, tensor in state.items() if tensor.owner is not None and tensor.owner() is not None]
        if names:
            raise RuntimeError(f"{held.format(', '.join(names))} before making the optimizer")
        for tensor in state.values():
            tensor._data = backend.lock(convert(tensor.data))
            tensor.grad = None
        return self

    # -- description

    def describe(self) -> str:
        """Return the layer's own settings for the printed form; empty by default."""
        return ""

    def __repr__(self) -> str:
        inside = [f"  ({name}): {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        body = "\n" + "\n".join(inside) + "\n" if inside else self.describe()
        return f"{type(self).__name__}({body})"

    def summary(self, input_shape: tuple[int, ...]) -> Any:
        """Return a table of the layers with their output shapes and numbers of parameters; `print` shows it.

        Parameters
        ----------
        input_shape : tuple of int
            The shape of one sample, without the batch: (28, 28, 1).
        """
        from minidl.nn.summary import summarize

        return summarize(self, input_shape)


class Sequential(Module):
    """Modules one after the other: given in order, or by name (`Sequential(conv=Conv2d(...), pool=...)`).

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Dense(64, 32), nn.ReLU(), nn.Dense(32, 10))
    >>> net(x).shape
    (100, 10)
    >>> net[:2]
    Sequential(
      (0): Flatten()
      (1): Dense(64, 32)
    )
    """

    def __init__(self, *modules: Module, **named: Module) -> None:
        for name, module in [*((str(i), module) for i, module in enumerate(modules)), *named.items()]:
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: '{name}' is {type(module).__name__}, expected a Module")
            if hasattr(Module, name):
                raise ValueError(f"Sequential: a module cannot be named '{name}', which every Module has already")
            if "." in name:
                raise ValueError(f"Sequential: a module cannot be named '{name}': dots stand between levels")
            setattr(self, name, module)

    def forward(self, x: Any) -> Any:
        for _, module in self.children():
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(list(self.children()))

    def __getitem__(self, index: int | slice) -> Module:
        """Return the module at this place, or for a slice a Sequential of the same modules under their names."""
        if isinstance(index, slice):
            return Sequential(**dict(list(self.children())[index]))
        return list(self.children())[index][1]

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self.children())
