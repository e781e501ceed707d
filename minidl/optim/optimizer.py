"""The base of all optimizers: it gathers W and g, asks for the rate, and writes what `update` returns."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, ClassVar, TypedDict

import numpy as np

from minidl import buffers
from minidl.backend import array_module, to_numpy
from minidl.ops.arguments import number
from minidl.optim import on_device
from minidl.optim.clipping import Clip
from minidl.optim.finite import all_or_nothing, check_weights
from minidl.optim.penalties import Penalty
from minidl.optim.schedule import Schedule
from minidl.optim.vector import Layout, gather
from minidl.tensor import Tensor
from minidl.threads import parts, share

PART = 2**16  # elements: what an update rule makes of them fits into a core's caches
SHARE = 2**17  # elements that are worth waking another thread

Rate = float | Callable[[int], float]


class Options(TypedDict, total=False):
    """The settings that every first-order optimizer takes by name; `Optimizer` describes them."""

    penalty: Penalty | Sequence[Penalty] | None
    clip: Clip | None
    lr_scale: Mapping[str, Any] | None


class Optimizer:
    """The base of all optimizers.

    An optimizer is its equation: write `update(W, g, lr, t)`, which takes the weights and the gradient of the loss as
    vectors, this step's rate and its number t = 1, 2, …, and returns the new weights. Name its state vectors in
    `state`; they start at zero, and are saved and loaded. Say `by_element = True` if the rule holds for each element by
    itself: `update` then receives large vectors part by part, of W, g, lr and the state alike.

    Parameters
    ----------
    params : Module or iterable of Tensors
        Every parameter that requires a gradient. They become views into one vector.
    lr : float or callable
        η. A callable, such as those of `optim.schedules`, takes the number of finished steps, from 0, and returns the
        rate of the next one.
    penalty : Penalty or sequence of them, optional
        From `optim.penalties`: what is added to the loss, or pulls at the weights after the step.
    clip : Clip, optional
        `optim.ClipValue` or `optim.ClipNorm`: a limit for the gradient of the loss and its penalties.
    lr_scale : mapping, optional
        Factors of the rate by the name of a layer or parameter, {"conv1": 0.1}: numbers, or arrays that broadcast to
        the parameter's shape. A later entry overrides an earlier one; the others have 1.

    Examples
    --------
    >>> for x, y in loader:
    ...     optimizer.zero_grad()
    ...     loss = ops.cross_entropy(model(x), y)
    ...     loss.backward()
    ...     optimizer.step()
    """

    state: ClassVar[tuple[str, ...]] = ()
    numbers: ClassVar[dict[str, str]] = {}  # attributes that are numbers, saved and loaded too, and their intervals
    has_rate: ClassVar[bool] = True
    by_element: ClassVar[bool] = False  # each element of W and of the state depends on that element of W, g, … alone

    def __init__(
        self,
        params: Any,
        lr: Rate | None,
        *,
        penalty: Penalty | Sequence[Penalty] | None = None,
        clip: Clip | None = None,
        lr_scale: Mapping[str, Any] | None = None,
    ) -> None:
        names, tensors = _named_tensors(params)
        self._vector = gather(tensors)
        name_of = {id(tensor): name for name, tensor in zip(names, tensors, strict=True)}
        self.layout = Layout(
            tuple(name_of[id(tensor)] for tensor in self._vector.tensors),
            tuple(tensor.shape for tensor in self._vector.tensors),
            tuple(self._vector.spans),
        )
        check_weights(self._vector.iterate, self.layout, type(self).__name__)
        self.lr = lr if callable(lr) or not self.has_rate else self.checked("lr", lr)
        self.penalties = self._checked_penalties(penalty)
        if clip is not None and not isinstance(clip, Clip):
            raise TypeError(f"{type(self).__name__}: clip is {clip!r}, expected optim.ClipValue or optim.ClipNorm")
        self.clip = clip
        self._scale = self._checked_scale(lr_scale)
        self.t = 0
        for name in self.state:
            setattr(self, name, self._vector.zeros())

    def update(self, W: Any, g: Any, lr: Any, t: int) -> Any:
        raise TypeError(f"{type(self).__name__} has no update method")

    # -- a step

    def zero_grad(self) -> None:
        """Begin a step at W^t: forget the gradients of the last one."""
        self._vector.settle()  # another optimizer over the same parameters may have looked ahead
        for tensor in self._vector.tensors:
            tensor.grad = None

    def step(self, closure: Callable[[], Any] | None = None, *, numbers: tuple[Any, Any] | None = None) -> Any:
        """End a step: replace the weights by what `update` makes of them and the gradients.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss, calls `backward` on it and returns it. `step` then begins the step too (`zero_grad`)
            and returns the loss.
        numbers : pair of arrays, optional
            Rate and number of the step, of shape () and in float64 on the GPU, in place of `rate` and `t`. They are
            read there: a captured graph makes each step with what lies in them then. See `stepped`.

        Raises
        ------
        FloatingPointError
            If the gradient is NaN or infinite, or the step overflows or divides by zero: nothing has moved then. Not
            under `np.errstate(all="ignore")`, nor on a GPU, where the weights take whatever comes.
        """
        loss = None
        if closure is not None:
            self.zero_grad()
            loss = closure()
        before, g = self._vector.iterate, self._gradient()
        lr, t = (self.rate, self.t + 1) if numbers is None else (None if self.lr is None else numbers[0], numbers[1])
        with all_or_nothing(self, g):
            self.t += 1
            W = self._updated(before, g, lr, t)
            for penalty in self.penalties:
                if penalty.decoupled:
                    W = penalty.pull(W, before, self.layout)
        self._vector.write(W)
        return loss

    def stepped(self) -> None:
        """Count a step that a captured graph has made."""
        self.t += 1
        self._vector.written()

    def not_stepped(self) -> None:
        """Undo what a captured graph has begun of a step that is not made: the place where the gradient was taken."""

    def _updated(self, W: Any, g: Any, lr: Any, t: Any) -> Any:
        """Return the result of `update`, computed as it is fast where the vector lies."""
        if array_module(W) is not np:
            return self._updated_on_device(W, g, lr, t)
        if self._scale is not None:
            lr = lr * self._scale
        if self.by_element and W.size > PART:
            return self._updated_by_parts(W, g, lr, t)
        result = self.update(W, g, lr, t)
        for name in self.state:
            if getattr(self, name) is W:  # where the new weights will be written
                setattr(self, name, W.copy())
        return result

    def _updated_on_device(self, W: Any, g: Any, lr: Any, t: Any) -> Any:
        """Return the result of one kernel, or of `update`; the state keeps its memory, which captured graphs know."""
        rule = on_device.rule(self)
        if rule is not None:
            in_place = not any(penalty.decoupled for penalty in self.penalties)  # those need the old weights too
            result = self._vector.room() if in_place else buffers.empty(W.shape, W)
            on_device.compute(rule, self, result, W, g, lr, t)
            return result
        memory = [getattr(self, name) for name in self.state]
        result = self.update(W, g, lr if self._scale is None else lr * self._scale, t)
        made = [result, *(getattr(self, name) for name in self.state)]
        result, *state = (x.copy() if any(x is own or x.base is own for own in memory) else x for x in made)
        for name, own, values in zip(self.state, memory, state, strict=True):
            own[...] = values
            setattr(self, name, own)
        return result

    def _updated_by_parts(self, W: Any, g: Any, lr: Any, t: Any) -> Any:
        """Return the result of `update`, called part by part: what an equation makes stays in the cache."""
        result, *vectors = (buffers.empty(W.shape, W) for _ in range(1 + len(self.state)))

        def compute(span: slice) -> None:
            rule = copy.copy(self)
            for part in (slice(i, min(i + PART, span.stop)) for i in range(span.start, span.stop, PART)):
                for name in self.state:
                    setattr(rule, name, getattr(self, name)[part])
                result[part] = rule.update(W[part], g[part], lr[part] if np.ndim(lr) else lr, t)
                for name, vector in zip(self.state, vectors, strict=True):
                    vector[part] = getattr(rule, name)

        share(compute, parts(W.size, SHARE))
        for name, vector in zip(self.state, vectors, strict=True):
            setattr(self, name, vector)
        return result

    def _gradient(self) -> Any:
        """Return the gradient of the loss and its penalties, at the point where it was taken, clipped."""
        g = self._vector.gradient()
        for penalty in self.penalties:
            if not penalty.decoupled:
                g = g + penalty.gradient(self._vector.position, self.layout)
        for span in self._vector.frozen:
            g[span] = 0  # so that neither momentum nor the clipped norm knows them
        return g if self.clip is None else self.clip(g)

    def cuda_source(self) -> str:
        """Return the kernel that makes a step on a GPU, in CUDA C++; it is written from `update`, and needs no GPU.

        Raises
        ------
        TypeError
            If `by_element` is not True, or `update` does what cannot be written down so.
        """
        if not self.by_element:
            raise TypeError(f"{type(self).__name__}.cuda_source: there is no kernel, by_element is not True")
        return on_device.write(self).source

    @property
    def rate(self) -> float | None:
        """The learning rate of the next step; None for a method that has none."""
        return self.checked("lr", self.lr(self.t)) if callable(self.lr) else self.lr

    @property
    def params(self) -> tuple[Tensor, ...]:
        """The parameters, in the order in which they lie in the vector W."""
        return tuple(self._vector.tensors)

    @property
    def weights(self) -> Any:
        """A copy of W^t, the iterate after the last step, as one vector."""
        return self._vector.iterate.copy()

    @property
    def penalty_value(self) -> float:
        """What the penalties add to the loss at W^t."""
        return float(sum(penalty.value(self._vector.iterate, self.layout) for penalty in self.penalties))

    # -- saving and loading

    def state_dict(self) -> dict[str, Any]:
        """Return class, t, the parameters' names and shapes, numbers, copies of the state vectors, and the schedule's.

        The vectors are NumPy arrays. Penalties, clipping, a rate that is a number and settings such as β are the
        maker's, and not in it.
        """
        vectors = {name: np.array(to_numpy(getattr(self, name))) for name in self.state}
        numbers = {name: getattr(self, name) for name in self.numbers}
        schedule: dict[str, Any] = {"schedule": self.lr.state_dict()} if isinstance(self.lr, Schedule) else {}
        layout = {name: list(shape) for name, shape in zip(self.layout.names, self.layout.shapes, strict=True)}
        return {"class": type(self).__name__, "t": self.t, "layout": layout, **vectors, **numbers, **schedule}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; the weights themselves are the model's to load.

        Raises
        ------
        ValueError
            If it is another class's, of other parameters or in another order, of a schedule with other settings, or an
            entry is missing, unexpected or mis-shaped. Nothing has been loaded then.
        """
        who = type(self).__name__
        if not isinstance(state, Mapping):
            raise TypeError(f"{who}.load_state_dict: state is {type(state).__name__}, expected a dictionary")
        expected = {"class", "t", "layout", *self.state, *self.numbers}
        expected |= {"schedule"} if isinstance(self.lr, Schedule) else set()
        if state.keys() != expected:
            raise ValueError(f"{who}.load_state_dict: the entries are {sorted(state)}, expected {sorted(expected)}")
        if state["class"] != who:
            raise ValueError(f"{who}.load_state_dict: this is the state of {state['class']}")
        self._check_layout(state["layout"])
        W = self._vector.iterate
        for name in self.state:
            if np.shape(state[name]) != W.shape:
                raise ValueError(f"{who}.load_state_dict: {name} has shape {np.shape(state[name])}, expected {W.shape}")
        t = state["t"]
        if not isinstance(t, (int, np.integer)) or t < 0:
            raise ValueError(f"{who}.load_state_dict: t is {t!r}, expected a non-negative integer")
        numbers = {name: self.checked(name, state[name], within) for name, within in self.numbers.items()}
        vectors = {}
        for name in self.state:
            try:
                vectors[name] = array_module(W).array(state[name], dtype=W.dtype)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{who}.load_state_dict: {name} does not consist of numbers: {error}") from error
        if isinstance(self.lr, Schedule):
            self.lr.load_state_dict(state["schedule"])  # refuses a state that is not its own, before anything is loaded
        self.t = int(t)
        vars(self).update(numbers)
        for name, vector in vectors.items():
            if array_module(W) is np:
                setattr(self, name, vector)
            else:  # a captured graph finds it where it was
                getattr(self, name)[...] = vector

    def _check_layout(self, saved: Any) -> None:
        """Raise unless the saved names and shapes are those of W: a vector's parts would go to other parameters."""
        who = f"{type(self).__name__}.load_state_dict"
        if not isinstance(saved, Mapping):
            raise ValueError(f"{who}: layout is {saved!r}, expected shapes by name")
        own = [f"{name} {list(shape)}" for name, shape in zip(self.layout.names, self.layout.shapes, strict=True)]
        theirs = [f"{name} {shape}" for name, shape in saved.items()]
        pairs = zip_longest(own, theirs, fillvalue="none")
        differ = [f"{one}, in the state {other}" for one, other in pairs if one != other]
        if differ:
            more = "; …" if len(differ) > 3 else ""
            raise ValueError(f"{who}: the parameters in W differ: {'; '.join(differ[:3])}{more}")

    # -- hyper-parameters

    def _checked_penalties(self, penalty: Any) -> tuple[Penalty, ...]:
        penalties = () if penalty is None else tuple(penalty) if isinstance(penalty, (list, tuple)) else (penalty,)
        for each in penalties:
            if not isinstance(each, Penalty):
                raise TypeError(f"{type(self).__name__}: penalty is {each!r}, expected one of optim.penalties")
            each.check(self.layout)
        return penalties

    def _checked_scale(self, factors: Mapping[str, Any] | None) -> Any:
        """Return the factors of the rate as a vector like W; None if there are none."""
        if not factors:
            return None
        who = f"{type(self).__name__}: lr_scale"
        if self.lr is None:
            raise ValueError(f"{who} is given, but this method has no learning rate")
        scale = self._vector.zeros() + 1
        parts = dict(self.layout.parts(scale))
        for key, factor in factors.items():
            values = np.asarray(factor, dtype=float)
            if not np.isfinite(values).all() or (values < 0).any():
                raise ValueError(f"{who}[{key!r}] is {factor!r}, expected finite numbers of at least 0")
            for name in self.layout.named(key, who):
                try:
                    parts[name][...] = array_module(scale).asarray(values)
                except ValueError:
                    shapes = f"has shape {values.shape}, which does not broadcast to {name}'s, {parts[name].shape}"
                    raise ValueError(f"{who}[{key!r}] {shapes}") from None
        return scale

    def checked(self, name: str, value: Any, within: str = "[0, inf)") -> float:
        """Return a hyper-parameter as a float if it lies in the interval `within`; otherwise raise, naming it."""
        return number(value, type(self).__name__, name, within)

    def __repr__(self) -> str:
        settings = {k: v for k, v in vars(self).items() if isinstance(v, (int, float, str, Schedule)) and k != "t"}
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in settings.items())})"


def _named_tensors(params: Any) -> tuple[list[str], list[Tensor]]:
    """Return names and Tensors to learn: a Module's or an iterable's, without frozen parameters of a Module."""
    if hasattr(params, "named_parameters"):
        learned = [(name, parameter) for name, parameter in params.named_parameters() if parameter.requires_grad]
        return [name for name, _ in learned], [parameter for _, parameter in learned]
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(f"optimizer: params is {type(params).__name__}, expected a Module or an iterable of Tensors")
    tensors = list(params)
    return [f"params[{i}]" for i in range(len(tensors))], tensors
