# %% [markdown]
# # 1 · Autograd by hand: solutions
#
# The class of the lesson again, and then its four exercises.

# %%
import numpy as np

import minidl as ml
from minidl import course

this = course.lesson("1 · Autograd by hand: solutions")


# %%
class Value:
    def __init__(self, number, sources=()):
        self.number, self.sources, self.gradient = number, sources, 0.0

    def __add__(self, other):
        return Value(self.number + other.number, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Value(self.number * other.number, [(self, other.number), (other, self.number)])

    def tanh(self):
        y = np.tanh(self.number)
        return Value(y, [(self, 1 - y * y)])

    def backward(self):
        self.gradient = 1.0
        for value in reversed(in_order(self)):
            for source, derivative in value.sources:
                source.gradient += value.gradient * derivative


def in_order(value, seen=None):
    """All values that this one was computed from, each after those that it was computed from itself."""
    seen = {} if seen is None else seen
    if value not in seen:
        for source, _ in value.sources:
            in_order(source, seen)
        seen[value] = True
    return list(seen)


def formula(x, w, b):
    """One neuron, used twice: y = tanh(w·x + b), z = y·x + y."""
    y = (w * x + b).tanh()
    return y * x + y


# %% [markdown]
# ## 1 · The sigmoid
#
# *Give `Value` the methods `exp` and `__pow__`, and check that the sigmoid's derivative is $\sigma(1 - \sigma)$.*
#
# The local derivatives are $\partial e^x/\partial x = e^x$ and $\partial x^n/\partial x = n x^{n-1}$. For $-x$ the
# class has no operator; $(-1) \cdot x$ is the same.


# %%
def exp(self):
    y = np.exp(self.number)
    return Value(y, [(self, y)])


def power(self, n):
    return Value(self.number**n, [(self, n * self.number ** (n - 1))])


Value.exp, Value.__pow__ = exp, power

x = Value(0.7)
s = (Value(1.0) + (Value(-1.0) * x).exp()) ** -1
s.backward()
print(f"1  by hand {x.gradient:.12f}, σ(1 − σ) {s.number * (1 - s.number):.12f}")
np.testing.assert_allclose(x.gradient, s.number * (1 - s.number), rtol=1e-14)

tensor = ml.Tensor(np.float64(0.7), requires_grad=True)
ml.ops.sigmoid(tensor).backward()
np.testing.assert_allclose(x.gradient, tensor.grad, rtol=1e-14)

# %% [markdown]
# ## 2 · Without adding up
#
# *Write `=` in place of `+=`. Which of the derivatives are wrong, and what are they instead?*
#
# The values are visited from the last to the first. First comes $z = y x + y$, an addition; it gives 1 to $y$ and 1 to
# the product $p = y x$. Then comes $p$, which overwrites $y$'s gradient with $x$, where it should become $x + 1$. So
# all that lies behind $y$ is wrong by the factor $x/(x + 1)$, a third of what it should be at $x = 0.5$: $dz/dw$ and
# $dz/db$. And $x$ keeps only what it was given last, by $w x$, the way through the neuron, with the same factor.


# %%
def backward_overwriting(z):
    z.gradient = 1.0
    for value in reversed(in_order(z)):
        for source, derivative in value.sources:
            source.gradient = value.gradient * derivative


def gradients(backward):
    x, w, b = Value(0.5), Value(1.5), Value(0.25)
    backward(formula(x, w, b))
    return np.array([x.gradient, w.gradient, b.gradient])


right, wrong = gradients(Value.backward), gradients(backward_overwriting)
print("2  right ", right)
print("   wrong ", wrong)
slope = 1 - np.tanh(1.5 * 0.5 + 0.25) ** 2  # of the tanh
np.testing.assert_allclose(wrong[1:], right[1:] / 3, rtol=1e-14)
np.testing.assert_allclose(wrong[0], 0.5 * slope * 1.5, rtol=1e-14)

# %% [markdown]
# ## 3 · Without the order
#
# *Let each value pass a gradient on when it receives it. Why is that not done?*
#
# Each path from the result to an input is then walked on its own. Doubling has two ways at each step, so that $n$
# doublings are $2^n$ paths. In order, each value is visited once.


# %%
def pass_on(value, gradient):
    """Add a gradient to a value and send it on at once; return the number of calls."""
    value.gradient += gradient
    return 1 + sum(pass_on(source, gradient * derivative) for source, derivative in value.sources)


def doubled(times):
    x = result = Value(1.0)
    for _ in range(times):
        result = result + result
    return x, result


x, result = doubled(15)
calls = pass_on(result, 1.0)
ordered_x, ordered = doubled(15)
ordered.backward()
print(f"3  dz/dx = {x.gradient:.0f} after {calls:,} calls; in order {ordered_x.gradient:.0f}", end=" ")
print(f"after {len(in_order(ordered))} visits")
assert x.gradient == ordered_x.gradient == 2**15
assert calls == 2**16 - 1
assert len(in_order(ordered)) == 16

# %% [markdown]
# ## 4 · Deep graphs
#
# *Write `in_order` as a loop.*
#
# A value is put on the list twice: first to have its sources visited, then, below them, to be taken down itself.
# minidl needs no such walk: a node knows when it was made, and always after its inputs, so that `minidl/graph.py`
# takes the newest first.


# %%
def in_order_by_a_loop(value):
    seen, ready, waiting = set(), [], [(value, False)]
    while waiting:
        value, sources_are_done = waiting.pop()
        if sources_are_done:
            ready.append(value)
        elif value not in seen:
            seen.add(value)
            waiting.append((value, True))
            waiting += [(source, False) for source, _ in value.sources]
    return ready


x = result = Value(0.0)
for _ in range(5000):
    result = result + Value(1.0)
try:
    in_order(result)
    raise AssertionError("the recursion should have been too deep")
except RecursionError:
    print("4  by recursion: too deep")

result.gradient = 1.0
for value in reversed(in_order_by_a_loop(result)):
    for source, derivative in value.sources:
        source.gradient += value.gradient * derivative
print(f"   by a loop: z = {result.number:.0f}, dz/dx = {x.gradient:.0f}")
assert (result.number, x.gradient) == (5000, 1)

x, w, b = Value(0.5), Value(1.5), Value(0.25)
z = formula(x, w, b)
order = in_order_by_a_loop(z)
assert all(order.index(source) < order.index(value) for value in order for source, _ in value.sources)
