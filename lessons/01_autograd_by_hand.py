# %% [markdown]
# # 1 · Autograd by hand
#
# A network is a long formula, and training needs its derivative with respect to every weight. Nobody writes that
# derivative down. Instead each small step of the formula remembers two things: what it was computed from, and how a
# change of its inputs changes it. The chain rule then runs backwards through these memories.
#
# Here that is done by hand in two dozen lines, for single numbers. Then the same formula is given to minidl, which does
# the same on arrays, and both are compared. All that follows in this course needs the gradient
# $\nabla_W L$ of the lecture notes' §1.2.1; this is where it comes from (Rumelhart, Hinton and Williams 1986).

# %%
import numpy as np

import minidl as ml
from minidl import course, viz

this = course.lesson("1 · Autograd by hand")

# %% [markdown]
# ## By hand
#
# A `Value` is a number with a gradient. `sources` holds, for each input, the input and the local derivative: for
# $z = x y$ these are $(x, y)$ and $(y, x)$, because $\partial z/\partial x = y$ and $\partial z/\partial y = x$.
# The chain rule adds up over all values $v_j$ that use $v_i$:
#
# $$ \frac{\partial z}{\partial v_i} = \sum_{j \text{ uses } i} \frac{\partial z}{\partial v_j}
# \frac{\partial v_j}{\partial v_i} $$
#
# `backward` is this sum, one term at a time.


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
# The formula uses $x$ twice and $y$ twice. Both contributions must be added, and $y$ must have received all of its
# gradient before it passes it on: that is why the values are visited in order, from the last to the first.

# %%
x, w, b = Value(0.5), Value(1.5), Value(0.25)
formula(x, w, b).backward()
by_hand = np.array([x.gradient, w.gradient, b.gradient])
print("by hand       dz/dx, dz/dw, dz/db =", by_hand)

# %% [markdown]
# ## With minidl
#
# The same formula, untouched: a `Tensor` has the same operators. What `Value` keeps in `sources` is a `Node` there.

# %%
tensors = [ml.Tensor(np.float64(number), requires_grad=True) for number in (0.5, 1.5, 0.25)]
z = formula(*tensors)
graph = ml.draw_graph(z, names=dict(zip("xwb", tensors, strict=True)) | {"z": z}, renderer="matplotlib")
z.backward()
from_minidl = np.array([tensor.grad for tensor in tensors])
print("with minidl   dz/dx, dz/dw, dz/db =", from_minidl)
print(f"largest difference: {np.abs(by_hand - from_minidl).max():.1g}")
np.testing.assert_allclose(by_hand, from_minidl, rtol=1e-14)

# %% [markdown]
# `draw_graph` has looked at what was recorded, before `backward` let go of it. Solid arrows are values on their way
# forward. A dashed arrow is one term of the sum above: the box $x$ receives two, one from each use, and so does
# $v_3 = \tanh(\ldots)$, which is $y$.

# %%
this.show(graph.figure(), "01_graph")

# %% [markdown]
# And both agree with the definition of a derivative, $(z(x + h) - z(x - h)) / 2h$, as far as that can be computed. How
# far that is, lesson 2 tells.

# %%
ml.check_gradients(formula, *(tensor.data for tensor in tensors))
print("finite differences agree")

# %% [markdown]
# ## What it is good for
#
# The derivative for many values of $x$ at once is one call, with $w = 1.5$ and $b = 0.25$. The picture shows $z$, and
# below it $dz/dx$, which is zero where $z$ has its minimum. Following $-dz/dx$ downhill, from $x = 2.5$, leads there.

# %%
count, steps = (60, 40) if this.quick else (400, 60)
xs = ml.Tensor(np.linspace(-3, 3, count), requires_grad=True)
zs = formula(xs, 1.5, 0.25)
zs.backward(np.ones(count))

path = [2.5]
for _ in range(steps):
    point = ml.Tensor(np.float64(path[-1]), requires_grad=True)
    formula(point, 1.5, 0.25).backward()
    path.append(path[-1] - 0.15 * float(point.grad))

print(f"the way down ends at x = {path[-1]:.5f}; the last dz/dx was {float(point.grad):.1g}")
assert abs(float(point.grad)) < 1e-3

figure = viz.titled_figure(
    7, 5.2, "A formula, its derivative, and the way down", "z = y·x + y with y = tanh(1.5 x + 0.25)"
)
upper, lower = (viz.plain(axes) for axes in figure.subplots(2, 1, sharex=True))
upper.plot(xs.data, zs.data, color=viz.INK)
upper.plot(path, [float(formula(ml.Tensor(p), 1.5, 0.25)) for p in path], "o", color=viz.ACCENT, markersize=4)
upper.annotate("start", (path[0], path[0] + 1), xytext=(-36, 0), textcoords="offset points", color=viz.ACCENT)
upper.set_ylabel("z")
lower.axhline(0, color=viz.FAINT)
lower.plot(xs.data, xs.grad, color=viz.ACCENT)
lower.set_ylabel("dz/dx")
lower.set_xlabel("x")

this.show(figure, "01_autograd_by_hand")

# %% [markdown]
# ## Take away
#
# - A derivative is assembled from local derivatives, backwards, each value passing on what it has received.
# - Where a value was used more than once, its gradients add up. It passes them on when all have arrived.
# - One walk back gives the derivatives with respect to all inputs, however many there are. `minidl/graph.py` is this
#   lesson for arrays, without recursion and with memory given back on the way.
#
# ## Exercises
#
# 1. Give `Value` the methods `exp` and `__pow__` (with a plain number as exponent), write the sigmoid
#    $\sigma(x) = (1 + e^{-x})^{-1}$ with them, and check that its derivative is $\sigma(x)(1 - \sigma(x))$.
# 2. Write `source.gradient = …` in place of `+=`. Which of the three derivatives are wrong now, and what are they
#    instead? Say it before you run it.
# 3. Leave out the order: let each value, when it receives a gradient, pass it on to its sources at once, by recursion.
#    The result is right. Why is it not done? Count the calls for an $x$ that is doubled 15 times in a row, each time by
#    adding the result to itself.
# 4. Add 1 to a `Value` 5,000 times and call `backward`. Python gives up: `in_order` calls itself once for each value.
#    Write it as a loop with a list of values that are still to be visited.
