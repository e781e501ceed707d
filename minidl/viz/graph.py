"""The picture of the graph that the engine has recorded: how a Tensor was computed, and how gradients return."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from minidl import backend
from minidl.files import replacing
from minidl.graph import Node, nodes_behind
from minidl.nn import Module, Parameter
from minidl.ops.arguments import positive_integer
from minidl.tensor import Tensor
from minidl.viz.graph_drawing import (
    Arrow,
    Box,
    Picture,
    dot_of,
    figure_of,
    needed_program,
    program,
    resolution,
    run_dot,
)
from minidl.viz.style import save

RENDERERS = ("auto", "graphviz", "matplotlib")
ENDINGS = (".png", ".svg", ".pdf")
PATIENCE, SHORT_PATIENCE = 120, 20  # seconds for Graphviz, alone and where Matplotlib can take over
LONGEST = 40  # letters of a name in a box …
LONGEST_IN_LABEL = 24  # … and in a label
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
SUBTITLE = (
    "Solid: values go forward. Dashed: the gradient comes back, times the derivative and in the shape beside it.",
    "Ops pass gradients on and keep none. What needs no gradient, such as a constant, is not recorded.",
)

Names = Module | Mapping[str, Tensor]


@dataclass(frozen=True)
class Vertex:
    """An op or a leaf of the graph.

    Attributes
    ----------
    name : str
        As given in `names`; otherwise v₁, v₂, … for what ops return, w₁, … for parameters, x₁, … for other leaves.
    op : str or None
        The op's name; None for a leaf.
    shape : tuple of int
        Of the op's output or of the leaf, and so of the gradient.
    leaf : Tensor or None
        The leaf itself; None for an op.
    """

    name: str
    op: str | None
    shape: tuple[int, ...]
    leaf: Tensor | None


@dataclass(frozen=True)
class Edge:
    """The use of a vertex as an op's argument: indices into `Graph.vertices`, and the argument's place from 0."""

    source: int
    target: int
    argument: int


class Graph:
    """The structure of a recorded graph, which outlives it: draw, call `backward`, and draw again.

    Made by `draw_graph`, whose arguments it takes. It keeps names and shapes, and the leaves, whose gradients it shows;
    no derivative and no value in between.

    Attributes
    ----------
    vertices : tuple of Vertex
        Each after its inputs; the last is the result.
    edges : tuple of Edge
        One for each use: x * x has two from x.
    """

    def __init__(self, tensor: Tensor, names: Names | None = None, *, renderer: str = "auto", limit: int = 500) -> None:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"draw_graph: tensor is {type(tensor).__name__}, expected a Tensor")
        if renderer not in RENDERERS:
            raise ValueError(f"draw_graph: renderer is {renderer!r}, expected one of {', '.join(RENDERERS)}")
        if not tensor.requires_grad:
            raise ValueError("draw_graph: this Tensor depends on nothing that requires a gradient, so it has no graph")
        if renderer == "graphviz":
            needed_program()
        positive_integer(limit, "draw_graph", "limit")
        self.renderer = renderer
        self.vertices, self.edges = _captured(tensor, _named(names), limit)

    def __repr__(self) -> str:
        ops = sum(vertex.leaf is None for vertex in self.vertices)
        return f"Graph({self.vertices[-1].name}: {_counted(ops, 'op')}, {_counted(len(self.vertices) - ops, 'leaf')})"

    def draw(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture, with the gradients that the leaves have now, and return the path.

        Parameters
        ----------
        path : path
            Ends in .png, .svg or .pdf. The file appears whole or not at all.

        Raises
        ------
        ValueError
            If the path has another ending.
        OSError
            If the file cannot be written.
        RuntimeError
            If Graphviz is asked for and missing, fails, or takes more than two minutes.
        """
        picture = self._by_graphviz(_form(path))
        if picture is not None:
            with replacing(path) as temporary:
                temporary.write_bytes(picture)
            return Path(path)
        figure = self.figure()
        return save(figure, path, resolution(figure))

    def figure(self) -> Figure:
        """Return the picture as Matplotlib draws it, with the gradients that the leaves have now."""
        return figure_of(self._picture())

    def dot(self) -> str:
        """Return the picture in the language of Graphviz, with the gradients that the leaves have now."""
        return dot_of(self._picture())

    def _repr_svg_(self) -> str:
        """Show the picture in a notebook."""
        picture = self._by_graphviz("svg")
        if picture is not None:
            return picture.decode()
        file = io.StringIO()
        self.figure().savefig(file, format="svg")
        return file.getvalue()

    def _by_graphviz(self, form: str) -> bytes | None:
        """Return Graphviz's picture; None where Matplotlib is to draw it."""
        if self.renderer == "graphviz":
            return run_dot(self.dot(), form, PATIENCE)
        if self.renderer == "matplotlib" or program() is None:
            return None
        try:
            return run_dot(self.dot(), form, SHORT_PATIENCE)
        except RuntimeError:  # it fails, or takes minutes, as it does for densely connected graphs
            return None

    def _picture(self) -> Picture:
        result = self.vertices[-1]
        boxes = tuple(_box(vertex, vertex is result) for vertex in self.vertices)
        uses: dict[tuple[int, int], list[int]] = {}
        for edge in self.edges:
            uses.setdefault((edge.source, edge.target), []).append(edge.argument)
        arrows = tuple(self._arrow(edge, uses[edge.source, edge.target]) for edge in self.edges)
        if result.leaf is not None:
            return Picture(f"{_shortened(result.name, LONGEST)} is a leaf", SUBTITLE[:0], boxes, arrows)
        leaves = sum(vertex.leaf is not None for vertex in self.vertices)
        counts = f"{_counted(len(boxes) - leaves, 'op')}, {_counted(leaves, 'leaf')}"
        return Picture(f"The graph of {_shortened(result.name, LONGEST)}: {counts}", SUBTITLE, boxes, arrows)

    def _arrow(self, edge: Edge, uses: list[int]) -> Arrow:
        """Return the arrow of an edge; `uses` holds the places of all arguments that this source is to this target."""
        source, target = self.vertices[edge.source], self.vertices[edge.target]
        upper, lower = (_shortened(vertex.name, LONGEST_IN_LABEL) for vertex in (target, source))
        which = f", use {uses.index(edge.argument) + 1}" if len(uses) > 1 else ""
        return Arrow(edge.source, edge.target, (f"∂{upper}/∂{lower}{which}", f"{source.shape}"))


def draw_graph(
    tensor: Tensor,
    path: str | os.PathLike[str] | None = None,
    *,
    names: Names | None = None,
    renderer: str = "auto",
    limit: int = 500,
) -> Graph:
    r"""Draw how a Tensor was computed, and the way of the gradients back.

    Boxes are ops, with the shape of what they return, and leaves: the parameters and inputs that require a gradient,
    with the state of theirs. Solid arrows are values. A dashed arrow is the gradient that an op sends to its input:
    the one it has received times the derivative beside the arrow,

    .. math:: \frac{\partial L}{\partial v_i} = \sum_{j \text{ uses } i}
              \frac{\partial L}{\partial v_j} \frac{\partial v_j}{\partial v_i}

    with one term for each dashed arrow that arrives; it has the shape in brackets, which is that of :math:`v_i`.

    Parameters
    ----------
    tensor : Tensor
        The result, such as the loss, before `backward`, which frees the graph.
    path : path, optional
        A file to write, ending in .png, .svg or .pdf.
    names : Module or mapping from names to Tensors, optional
        Names of leaves, and of results in between: `{"x": x, "loss": loss, **dict(model.named_parameters())}`. What is
        not in the graph is passed over.
    renderer : {"auto", "graphviz", "matplotlib"}, default "auto"
        "auto" takes Graphviz if its program `dot` is on the PATH and is done within 20 seconds.
    limit : int, default 500
        The most ops and leaves that are drawn.

    Returns
    -------
    Graph
        With `draw(path)`, `figure()` and `dot()`, which show the gradients that the leaves have when they are called;
        a notebook shows it as a picture.

    Raises
    ------
    TypeError
        If `tensor` is no Tensor, or `names` holds something else.
    ValueError
        If the Tensor needs no gradient, or `path`, `renderer` or `limit` do not fit.
    RuntimeError
        If the graph was freed by an earlier `backward`, or Graphviz is asked for and missing, or fails.
    OSError
        If the file cannot be written.

    Notes
    -----
    The engine records only what a gradient passes. Constants, labels, and inputs that need no gradient are therefore
    not in the picture. A Tensor that requires a gradient and was computed from nothing is drawn as a single leaf.

    Examples
    --------
    >>> loss = ops.cross_entropy(model(x), y)
    >>> graph = ml.draw_graph(loss, "before.png", names=model)
    >>> loss.backward()
    >>> graph.draw("after.png").name
    'after.png'
    """
    if path is not None:
        _form(path)
    graph = Graph(tensor, names, renderer=renderer, limit=limit)
    if path is not None:
        graph.draw(path)
    return graph


# ---------------------------------------------------------------- structure


def _captured(tensor: Tensor, names: dict[int, str], limit: int) -> tuple[tuple[Vertex, ...], tuple[Edge, ...]]:
    if tensor.node is None:
        return (_leaf(tensor, names.get(id(tensor)) or "x"),), ()
    nodes = _nodes(tensor.node)
    vertices: list[Vertex] = []
    edges: list[Edge] = []
    place: dict[int, int] = {}
    counts = {"v": 0, "w": 0, "x": 0}
    given = set(names.values())

    def add(source: Any) -> None:
        letter = "v" if type(source) is Node else "w" if isinstance(source, Parameter) else "x"
        counts[letter] += 1
        while (numbered := f"{letter}{counts[letter]}".translate(SUBSCRIPTS)) in given:
            counts[letter] += 1
        name = names.get(id(source)) or numbered
        place[id(source)] = len(vertices)
        vertices.append(Vertex(name, source.name, source.shape, None) if letter == "v" else _leaf(source, name))

    for node in nodes:
        for source in node.inputs:
            if source is not None and id(source) not in place:
                add(source)
        add(node)
        edges += [Edge(place[id(s)], place[id(node)], i) for i, s in enumerate(node.inputs) if s is not None]
    if len(vertices) > limit:
        raise ValueError(
            f"draw_graph: the graph has {len(vertices):,} ops and leaves, expected at most limit = {limit:,}; "
            "draw the graph of a part of it, or raise the limit"
        )
    return tuple(vertices), tuple(edges)


def _nodes(root: Node) -> list[Node]:
    """Return the nodes that `root` depends on, oldest first."""
    nodes = nodes_behind(root)[::-1]
    for node in nodes:
        if node.derivatives is None:
            raise RuntimeError(
                f"draw_graph: the graph behind '{node.name}' was freed by an earlier backward; call draw_graph before "
                "backward, and draw what it returns again afterwards"
            )
    return nodes


def _leaf(tensor: Tensor, name: str) -> Vertex:
    return Vertex(name, None, tensor.shape, tensor)


def _named(names: Names | None) -> dict[int, str]:
    """Return the names by the id of the node or leaf that they belong to."""
    if isinstance(names, Module):
        names = dict(names.named_parameters())
    if names is not None and not isinstance(names, Mapping):
        raise TypeError(f"draw_graph: names is {type(names).__name__}, expected a Module or a mapping to Tensors")
    found: dict[int, str] = {}
    for name, tensor in (names or {}).items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            kinds = f"{type(name).__name__} -> {type(tensor).__name__}"
            raise TypeError(f"draw_graph: names has {kinds}, expected names of Tensors")
        clean = "".join(letter if letter.isprintable() else " " for letter in name).strip()
        found.setdefault(id(tensor.node or tensor), clean)
    return found


# ---------------------------------------------------------------- words


def _box(vertex: Vertex, result: bool) -> Box:
    name = _shortened(vertex.name, LONGEST)
    if vertex.leaf is None:
        return Box((f"{name} = {vertex.op}", f"result {vertex.shape}" if result else f"{vertex.shape}"), result=result)
    kind = "parameter" if isinstance(vertex.leaf, Parameter) else "input"
    g = vertex.leaf.grad
    note = "no gradient yet" if g is None else f"gradient {g.shape}, norm {_norm(g):.3g}"
    return Box((name, f"{kind} {vertex.shape}"), note, noted=g is not None, leaf=True, result=result)


def _norm(g: Any) -> float:
    values = backend.to_numpy(g)
    return float(np.linalg.norm(values.astype(np.result_type(values, np.float64)).ravel()))


def _counted(number: int, what: str) -> str:
    plural = {"op": "ops", "leaf": "leaves"}
    return f"{number:,} {what if number == 1 else plural[what]}"


def _shortened(name: str, longest: int) -> str:
    """Return the name, or the end of it, which tells more than its beginning."""
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def _form(path: str | os.PathLike[str]) -> str:
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"draw_graph: path is {os.fspath(path)!r}, expected one that ends in {', '.join(ENDINGS)}")
    return ending[1:]
