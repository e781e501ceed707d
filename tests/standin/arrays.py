"""Arrays "on the device", and the functions on them."""

from __future__ import annotations

import types
from pathlib import Path

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from standin.recording import graph, launch, launches, refuse_cublas, transfer

NAMES = frozenset((Path(__file__).parent / "cupy_names.txt").read_text(encoding="utf-8").split())
SCALARS = (bool, int, float, complex, np.generic)
CUBLAS = {"matmul", "dot", "vdot", "inner", "tensordot", "einsum"}


class ndarray(NDArrayOperatorsMixin):
    """An array "on the device": memory of NumPy's that only this module touches.

    `base` is the array that this one is a view of, or None.
    """

    __module__ = "cupy"
    __slots__ = ("__weakref__", "_array", "base")

    def __init__(self, array, base=None):
        self._array, self.base = array, base

    shape = property(lambda self: self._array.shape)
    strides = property(lambda self: self._array.strides)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    flags = property(lambda self: self._array.flags)
    data = property(lambda self: types.SimpleNamespace(ptr=self._array.__array_interface__["data"][0]))
    T = property(lambda self: _view(self, self._array.T))
    real = property(lambda self: _view(self, self._array.real))
    imag = property(lambda self: _view(self, self._array.imag))

    def __len__(self):
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return len(self._array)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # -- to and from the host

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def get(self):
        transfer("to host")
        return self._array.copy()

    def set(self, values):
        if type(values) is not np.ndarray or values.dtype != self.dtype or values.shape != self.shape:
            raise ValueError(f"cannot set {values!r} to an array of shape {self.shape}, {self.dtype}")
        transfer("to device")
        self._array[...] = values

    def item(self, *args):
        return self.get().item(*args)

    def tolist(self):
        return self.get().tolist()

    def __bool__(self):
        return bool(self.get())

    def __int__(self):
        return int(self.get())

    def __float__(self):
        return float(self.get())

    def __complex__(self):
        return complex(self.get())

    def __repr__(self):
        return repr(self.get())

    def __str__(self):
        return str(self.get())

    def __format__(self, spec):
        return format(self.get(), spec)

    def __reduce__(self):
        return asarray, (self.get(),)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    __hash__ = None

    # -- computing

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        if method != "__call__" or ufunc.__name__ not in NAMES:
            return NotImplemented
        if any(not isinstance(x, (ndarray, np.ndarray, *SCALARS)) for x in inputs):
            return NotImplemented
        if ufunc is np.matmul:
            refuse_cublas("matmul")
        for x in (*inputs, *(out or ())):
            check_operand(x)
        if out is not None:
            targets = tuple(map(host, out))
            launch(lambda: ufunc(*map(host, inputs), out=targets, **settings))
            return out[0] if len(out) == 1 else out
        if settings.keys() & {"where"}:
            raise TypeError("Wrong arguments {'where': ...}")
        return computed(lambda: ufunc(*map(host, inputs), **settings))

    def __array_function__(self, function, kinds, args, kwargs):
        if function.__name__ not in NAMES and not function.__module__.startswith("numpy.linalg"):
            return NotImplemented
        if any(kind not in (ndarray, np.ndarray) for kind in kinds):
            return NotImplemented
        return call(function, *args, **kwargs)

    def __getitem__(self, key):
        key = index(key)
        if not _advanced(key):
            key = key if type(key) is tuple else (key,)
            return _view(self, self._array[key if any(each is ... for each in key) else (*key, ...)])
        if _masks(key):
            transfer("to host")  # the size of the result
        return computed(lambda: self._array[key])

    def __setitem__(self, key, value):
        if type(value) is np.ndarray:
            whole = type(key) is slice and key == slice(None)
            if whole and value.shape == self.shape and value.dtype == self.dtype:
                transfer("to device")
            elif value.ndim:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        key = index(key)
        launch(lambda: self._array.__setitem__(key, host(value)))

    def sort(self, axis=-1):
        launch(lambda: self._array.sort(axis))

    def fill(self, value):
        self[...] = value

    def view(self, dtype=None):
        return _view(self, self._array if dtype is None else self._array.view(dtype))


def _view(parent, array):
    """Return a part of the memory of `parent`, or of a copy that NumPy had to make, as an array on the device."""
    if not np.may_share_memory(array, parent._array):
        return ndarray(array)
    return ndarray(array, parent if parent.base is None else parent.base)


def _method(name):
    """Return a method that makes a new array."""

    def method(self, *args, **kwargs):
        if name == "dot":
            refuse_cublas(name)
        for x in (*args, *kwargs.values()):
            if isinstance(x, np.ndarray):
                check_operand(x)
        if isinstance(kwargs.get("out"), ndarray):
            settings = {key: host(value) for key, value in kwargs.items()}
            launch(lambda: getattr(self._array, name)(*map(host, args), **settings))
            return kwargs["out"]
        if name == "astype" and not kwargs.get("copy", True) and self.dtype == np.dtype(args[0]):
            return self
        return computed(lambda: getattr(self._array, name)(*map(host, args), **kwargs))

    return method


def _viewing(name):
    """Return a method that makes a view where NumPy does."""

    def method(self, *args, **kwargs):
        made = getattr(self._array, name)(*args, **kwargs)
        if np.may_share_memory(made, self._array) or made.size == 0:
            return _view(self, made)
        return computed(lambda: getattr(self._array, name)(*args, **kwargs))

    return method


METHODS = """
    all any argmax argmin argsort astype clip compress copy cumprod cumsum diagonal dot flatten max mean min nonzero
    prod repeat round std sum take trace var
"""
for _name in METHODS.split():
    setattr(ndarray, _name, _method(_name))
for _name in ("reshape", "transpose", "swapaxes", "ravel", "squeeze"):
    setattr(ndarray, _name, _viewing(_name))


def host(x):
    """Return the memory of a stand-in's array as NumPy's, and everything else as it is."""
    if type(x) is ndarray:
        return x._array
    if type(x) in (list, tuple):
        return type(x)(map(host, x))
    return x


def check_operand(x):
    if not isinstance(x, (ndarray, *SCALARS)):
        raise TypeError(f"Unsupported type {type(x)}")


def computed(compute):
    """Return the result of `compute`; in a captured graph, memory that gets it whenever the graph is launched."""
    with np.errstate(all="ignore"):
        found = compute()
    several = isinstance(found, (tuple, list))
    results = [np.array(part) for part in (found if several else [found])]
    launches["array function"] += 1
    if graph.work is not None:

        def again():
            parts = compute()
            for target, part in zip(results, parts if several else [parts], strict=True):
                target[...] = part

        graph.work.append(again)
        for result in results:
            _poison(result)
    return tuple(map(ndarray, results)) if several else ndarray(results[0])


def index(key):
    if type(key) is tuple:
        return tuple(map(index, key))
    if isinstance(key, np.ndarray):
        transfer("to device")
    return host(key) if type(key) is ndarray else key


def _advanced(key):
    return any(isinstance(each, (np.ndarray, list)) for each in (key if type(key) is tuple else (key,)))


def _masks(key):
    return any(isinstance(each, np.ndarray) and each.dtype == bool for each in (key if type(key) is tuple else (key,)))


VIEWS = """
    reshape transpose swapaxes moveaxis ravel squeeze expand_dims broadcast_to atleast_1d atleast_2d real imag
    as_strided sliding_window_view asarray ascontiguousarray split
"""


def call(function, *args, **kwargs):
    """Call a function of NumPy's on arrays of the stand-in."""
    name = function.__name__
    flat = [*args, *kwargs.values()]
    flat += [each for x in flat if type(x) in (list, tuple) for each in x]
    for x in flat:
        if type(x) is np.ndarray:
            check_operand(x)
    if name in CUBLAS:
        refuse_cublas(name)
    if name in ("shape", "ndim", "size", "result_type", "iscomplexobj", "may_share_memory", "shares_memory"):
        return function(*map(host, args), **{key: host(value) for key, value in kwargs.items()})
    if name in ("array_equal", "allclose"):
        return computed(lambda: function(*map(host, args), **kwargs))
    if name.startswith("empty"):
        return poisoned(function(*map(host, args), **kwargs))
    if name in VIEWS.split():
        made = function(*map(host, args), **{key: host(value) for key, value in kwargs.items()})
        if isinstance(made, (list, tuple)):
            return [_view(args[0], part) for part in made]
        if made is host(args[0]):
            return args[0]
        if np.may_share_memory(made, host(args[0])):
            return _view(args[0], made)
    if "out" in kwargs and kwargs["out"] is not None:
        settings = {key: host(value) for key, value in kwargs.items()}
        launch(lambda: function(*map(host, args), **settings))
        return kwargs["out"]
    if name == "copyto":
        launch(lambda: function(*map(host, args), **kwargs))
        return None
    if name in ("nonzero", "flatnonzero", "unique", "argwhere"):
        transfer("to host")  # the size of the result
    return computed(lambda: function(*map(host, args), **{key: host(value) for key, value in kwargs.items()}))


def _poison(array):
    array[...] = np.nan if array.dtype.kind in "fc" else array.dtype.type(0 if graph.work is not None else 85)


def poisoned(array):
    _poison(array)
    return ndarray(array)


def asarray(x, dtype=None, order=None, copy=None):
    """Return x as an array on the device; copied unless it is one of this dtype."""
    if type(x) is ndarray:
        return x if dtype is None or x.dtype == np.dtype(dtype) else x.astype(dtype)
    if isinstance(x, (list, tuple)) and any(type(each) is ndarray for each in x):
        return call(np.stack, [asarray(each) for each in x])
    transfer("to device")
    return ndarray(np.array(x, dtype=dtype, order=order or "C"))


def array(x, dtype=None, copy=True, **kwargs):
    return x.astype(dtype or x.dtype) if type(x) is ndarray else asarray(x, dtype)


def scatter_add(a, key, values):
    """Add values to elements of an array, to one as often as it is named."""
    key = index(key)
    launch(lambda: np.add.at(host(a), key, host(values)))
