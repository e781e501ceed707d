"""The graph in the picture is the graph that was computed, and both renderers draw it without collisions."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import weakref
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.transforms import Bbox

import minidl as ml
from minidl import models, nn, ops, viz
from minidl.viz import graph_drawing
from minidl.viz.graph_layout import Way, arrange
from minidl.viz.style import ACCENT

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz: no program 'dot' on the PATH")


def leaf(*values):
    return ml.Tensor(np.array(values, np.float64), requires_grad=True)


def expression():
    x, y = leaf(1, 2), leaf(3, 4)
    return x * y + ops.sin(x), {"x": x, "y": y}


def perceptron():
    model = models.mlp([5, 4, 3])
    return ops.cross_entropy(model(np.ones((6, 5), np.float32)), np.array([0, 1, 2, 0, 1, 2])), model


def lenet():
    model = models.lenet5()
    return ops.cross_entropy(model(np.ones((2, 28, 28, 1), np.float32)), np.array([3, 4])), model


class Block(nn.Module):
    def __init__(self):
        self.conv1, self.conv2 = (nn.Conv2d(2, 2, 3, padding=1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = nn.BatchNorm(2), nn.BatchNorm(2)

    def forward(self, x):
        return ops.relu(self.norm2(self.conv2(ops.relu(self.norm1(self.conv1(x))))) + x)


def residual():
    block = Block()
    x = ml.Tensor(np.ones((2, 4, 4, 2), np.float32), requires_grad=True)
    return block(x).mean(), {"x": x, **dict(block.named_parameters())}


def fan():
    x = leaf(1, 2)
    return ops.concatenate([x * x if i % 2 else ops.sin(x) for i in range(6)]).sum(), {"a rather long name of x": x}


SAMPLES = [expression, perceptron, lenet, residual, fan]


def structure(graph):
    """Return op, shape and the names of the inputs, in order, for every name."""
    into = {vertex.name: [] for vertex in graph.vertices}
    for edge in sorted(graph.edges, key=lambda edge: edge.argument):
        into[graph.vertices[edge.target].name].append(graph.vertices[edge.source].name)
    return {vertex.name: (vertex.op, vertex.shape, into[vertex.name]) for vertex in graph.vertices}


def words(figure):
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts]


# ---------------------------------------------------------------- structure


def test_an_expression_is_captured_with_shared_leaves_once():
    z, names = expression()
    graph = ml.draw_graph(z, names=names)
    assert structure(graph) == {
        "x": (None, (2,), []),
        "y": (None, (2,), []),
        "v₁": ("multiply", (2,), ["x", "y"]),
        "v₂": ("sin", (2,), ["x"]),
        "v₃": ("add", (2,), ["v₁", "v₂"]),
    }
    assert repr(graph) == "Graph(v₃: 3 ops, 2 leaves)"
    assert ml.draw_graph is viz.draw_graph
    assert isinstance(graph, viz.Graph)


def test_each_use_of_a_value_is_an_edge():
    x = leaf(1, 2, 3)
    y = x * x
    graph = ml.draw_graph(y * y + x, names={"x": x, "y": y})
    assert structure(graph) == {
        "x": (None, (3,), []),
        "y": ("multiply", (3,), ["x", "x"]),
        "v₂": ("multiply", (3,), ["y", "y"]),
        "v₃": ("add", (3,), ["v₂", "x"]),
    }
    for text in (words(graph.figure()), graph.dot()):
        for label in ("∂y/∂x, use 1", "∂y/∂x, use 2", "∂v₂/∂y, use 1", "∂v₃/∂x"):
            assert label in text
        assert "∂v₃/∂x, use 1" not in text


def test_a_perceptron_is_captured_under_its_names_and_without_its_constant_input():
    loss, model = perceptron()
    graph = ml.draw_graph(loss, names=model)
    assert structure(graph) == {
        "1.weight": (None, (5, 4), []),
        "v₁": ("matmul", (6, 4), ["1.weight"]),
        "1.bias": (None, (4,), []),
        "v₂": ("add", (6, 4), ["v₁", "1.bias"]),
        "v₃": ("relu", (6, 4), ["v₂"]),
        "3.weight": (None, (4, 3), []),
        "v₄": ("matmul", (6, 3), ["v₃", "3.weight"]),
        "3.bias": (None, (3,), []),
        "v₅": ("add", (6, 3), ["v₄", "3.bias"]),
        "v₆": ("cross_entropy", (), ["v₅"]),
    }
    assert [edge.argument for edge in graph.edges][:2] == [1, 0], "matmul(constant, weight) uses the weight second"


def test_leaves_without_a_name_are_numbered_by_their_kind():
    x, w = leaf(1), nn.Parameter(np.ones(1))
    graph = ml.draw_graph(x * w + leaf(2) * nn.Parameter(np.ones(1)))
    assert [vertex.name for vertex in graph.vertices if vertex.leaf is not None] == ["x₁", "w₁", "x₂", "w₂"]
    text = words(graph.figure())
    assert text.count("input (1,)") == text.count("parameter (1,)") == 2


def test_the_skip_of_a_residual_block_is_there():
    loss, names = residual()
    found = structure(ml.draw_graph(loss, names={**names, "loss": loss}))
    assert found["v₁"][2] == ["x", "conv1.weight"]
    assert found["v₂"] == ("batch_norm", (2, 4, 4, 2), ["v₁", "norm1.gamma", "norm1.beta"])
    assert found["v₆"] == ("add", (2, 4, 4, 2), ["v₅", "x"])
    assert found["loss"] == ("mean", (), ["v₇"])


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12), st.data())
def test_any_graph_is_captured_as_it_was_computed(choices, data):
    made = [leaf(1), leaf(2), leaf(3)]
    computed = {}
    for i, j in choices:
        i, j = i % len(made), j % len(made)
        computed[len(made)] = [i, j]
        made.append(made[i] + made[j])
    result = data.draw(st.integers(3, len(made) - 1))
    needed, waiting = set(), [result]
    while waiting:
        k = waiting.pop()
        needed.add(k)
        waiting += computed.get(k, [])
    graph = ml.draw_graph(made[result], names={str(k): tensor for k, tensor in enumerate(made)})
    assert {int(name): [int(i) for i in inputs] for name, (_, _, inputs) in structure(graph).items()} == {
        k: computed.get(k, []) for k in needed
    }
    assert graph.vertices[-1].name == str(result)
    assert all(edge.source < edge.target for edge in graph.edges)
    collides_nowhere(graph.figure())


def test_a_long_chain_does_not_recurse_and_is_refused_only_by_the_limit():
    y = x = leaf(1)
    for _ in range(3000):
        y = y + x
    message = "draw_graph: the graph has 3,001 ops and leaves, expected at most limit = 500"
    with pytest.raises(ValueError, match=re.escape(message)):
        ml.draw_graph(y)
    graph = ml.draw_graph(y, limit=3001)
    assert len(graph.edges) == 6000
    assert graph.dot().count("->") == 12000


# ---------------------------------------------------------------- gradients


def test_the_picture_outlives_the_graph_and_shows_what_has_arrived():
    loss, model = perceptron()
    graph = ml.draw_graph(loss, names=model)
    for text in (words(graph.figure()), re.split(r"[<>]", graph.dot())):
        assert text.count("no gradient yet") == 4
        assert not any("norm" in word for word in text)
    loss.backward()
    for text in (words(graph.figure()), re.split(r"[<>]", graph.dot())):
        assert "no gradient yet" not in text
        for parameter in model.parameters():
            norm = np.sqrt(sum(float(g) ** 2 for g in parameter.grad.ravel()))
            assert f"gradient {parameter.shape}, norm {norm:.3g}" in text
        assert sum("norm" in word for word in text) == 4, "an op in between keeps no gradient"
    model.parameters().__next__().grad = None
    assert words(graph.figure()).count("no gradient yet") == 1


def test_a_norm_in_half_precision_does_not_overflow():
    x = ml.Tensor(np.ones(4, np.float16), requires_grad=True)
    graph = ml.draw_graph(x * 2.0)
    x.grad = np.full(4, 30000, np.float16)
    assert "gradient (4,), norm 6e+04" in words(graph.figure())


def test_each_edge_has_its_derivative_and_the_shape_of_the_gradient():
    w, b = leaf(1, 2), leaf(5)
    text = words(ml.draw_graph((w * 3.0 + b).sum(), names={"w": w, "b": b}).figure())
    labels = [(word, text[i + 1]) for i, word in enumerate(text) if word.startswith("∂")]
    assert sorted(labels) == [("∂v₁/∂w", "(2,)"), ("∂v₂/∂b", "(1,)"), ("∂v₂/∂v₁", "(2,)"), ("∂v₃/∂v₂", "(2,)")]


@pytest.mark.parametrize("backward", [False, True])
def test_a_captured_graph_keeps_neither_derivatives_nor_values(backward):
    x = leaf(1, 2)
    inside = ops.exp(x)
    loss = (inside * inside).sum()
    kept = [weakref.ref(inside._data), weakref.ref(inside), weakref.ref(loss)]
    kept += [weakref.ref(d) for d in [*inside.node.derivatives, *loss.node.derivatives]]
    graph = ml.draw_graph(loss, names={"inside": inside})
    if backward:
        loss.backward()
    del loss, inside
    assert [ref() for ref in kept] == [None] * len(kept)
    assert graph.vertices[0].leaf is x


# ---------------------------------------------------------------- what cannot be drawn


def test_a_leaf_is_drawn_alone():
    x = leaf(1, 2)
    graph = ml.draw_graph(x, names={"x": x})
    assert structure(graph) == {"x": (None, (2,), [])}
    assert words(graph.figure()) == ["x", "input (2,)", "no gradient yet"]
    assert "x is a leaf" in graph.dot()


def test_a_freed_graph_is_an_error_that_says_what_to_do():
    x = leaf(1, 2)
    y = ops.exp(x)
    z = y.sum()
    (y * y).sum().backward()
    with pytest.raises(RuntimeError, match="draw_graph: the graph behind 'exp' was freed by an earlier backward; call"):
        ml.draw_graph(z)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tensor": 3}, TypeError, "draw_graph: tensor is int, expected a Tensor"),
        ({"tensor": ml.Tensor([1.0])}, ValueError, "draw_graph: this Tensor depends on nothing that requires"),
        ({"renderer": "latex"}, ValueError, "draw_graph: renderer is 'latex', expected one of auto, graphviz"),
        ({"names": [1]}, TypeError, "draw_graph: names is list, expected a Module or a mapping to Tensors"),
        ({"names": {"x": 1}}, TypeError, "draw_graph: names has str -> int, expected names of Tensors"),
        ({"names": {1: ml.Tensor(1.0)}}, TypeError, "draw_graph: names has int -> Tensor, expected names of Tensors"),
        ({"limit": 0}, ValueError, "draw_graph: limit"),
        ({"path": "graph.gif"}, ValueError, "draw_graph: path is 'graph.gif', expected one that ends in .png, .svg"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ml.draw_graph(**{"tensor": leaf(1) * 2, **arguments})


# ---------------------------------------------------------------- Matplotlib


def collides_nowhere(figure):
    """Check that texts lie inside one box or outside all, and that nothing is drawn over anything."""
    (axes,) = figure.axes
    renderer = figure.canvas.get_renderer()
    texts = [text.get_window_extent(renderer) for text in [*figure.texts, *axes.texts]]
    boxes = [patch.get_window_extent(renderer) for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    for extent in texts + boxes:
        assert figure.bbox.x0 <= extent.x0 < extent.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= extent.y0 < extent.y1 <= figure.bbox.y1
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    for i, text in enumerate(texts):
        assert not any(text.padded(-0.5).overlaps(other) for other in texts[:i])
        around = [box for box in boxes if box.overlaps(text)]
        assert len(around) <= 1
        assert all(box.x0 + 3 < text.x0 and text.x1 < box.x1 - 3 for box in around)
        assert all(box.y0 + 1 < text.y0 and text.y1 < box.y1 - 1 for box in around)
    for patch in axes.patches:
        if isinstance(patch, PathPatch):
            line = patch.get_path().transformed(patch.get_transform()).cleaned(curves=False)
            assert not any(line.intersects_bbox(Bbox(extent.padded(-1)), filled=False) for extent in texts + boxes)


@pytest.mark.parametrize("sample", SAMPLES)
def test_no_text_box_or_arrow_is_drawn_over_another(sample):
    result, names = sample()
    graph = ml.draw_graph(result, names=names)
    before = graph.figure()
    collides_nowhere(before)
    result.backward(np.ones(result.shape))
    after = graph.figure()
    collides_nowhere(after)
    assert words(before) != words(after)


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_edge_has_an_arrow_forward_and_a_dashed_one_back(sample):
    result, names = sample()
    graph = ml.draw_graph(result, names=names)
    (axes,) = graph.figure().axes
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    lines = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    heads = [patch.get_xy() for patch in axes.patches if isinstance(patch, Polygon)]
    assert len(boxes) == len(graph.vertices)
    assert len(lines) == len(heads) == 2 * len(graph.edges)

    def box_at(point):
        x, y = point
        (found,) = (
            i
            for i, box in enumerate(boxes)
            if box.get_x() <= x <= box.get_x() + box.get_width()
            and min(abs(y - box.get_y()), abs(y - box.get_y() - box.get_height())) < 1e-6
        )
        return found

    ends = []
    for line, head in zip(lines, heads, strict=True):
        back = line.get_linestyle() != "-"
        assert to_hex(line.get_edgecolor()) == (graph_drawing.BACKWARD if back else ACCENT)
        start, end = box_at(line.get_path().vertices[0]), box_at(head[2])
        ends.append((end, start, back) if back else (start, end, back))
        vertical = [np.sign(np.diff(line.get_path().vertices[pair, 1]))[0] for pair in (slice(0, 2), slice(-2, None))]
        assert vertical == (2 * [-1 if back else 1])
    expected = [(edge.source, edge.target, back) for edge in graph.edges for back in (False, True)]
    assert sorted(ends) == sorted(expected)


def test_boxes_wear_what_they_are():
    z, names = expression()
    (axes,) = ml.draw_graph(z, names=names).figure().axes
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert [to_hex(box.get_facecolor()) for box in boxes] == [graph_drawing.LEAF] * 2 + ["#ffffff"] * 3
    assert [box.get_linewidth() for box in boxes] == [0.9] * 4 + [2.0]


def test_what_can_be_drawn_without_crossings_is():
    z, names = expression()
    graph = ml.draw_graph(z, names=names)
    layout = arrange([(1, 0.5)] * 5, [Way(edge.source, edge.target, (0.5, 0.3)) for edge in graph.edges])
    for one, other in itertools.combinations(layout.ways, 2):
        for ((x0, y0), (x1, y1)), ((a0, b0), (a1, b1)) in itertools.product(*map(itertools.pairwise, (one, other))):
            assert max(x0, x1) < min(a0, a1) or max(a0, a1) < min(x0, x1) or max(y0, y1) < b0 or max(b0, b1) < y0


def keeps_apart(sizes, ways):
    """Check that nothing lies over anything in the layout, except where two arrows exchange places."""
    layout = arrange(sizes, ways)
    frames = [Bbox.from_bounds(x - w / 2, y - h / 2, w, h) for x, y, w, h in layout.boxes]
    for i, frame in enumerate(frames):
        assert frame.width >= sizes[i][0] - 1e-9
        assert frame.height == pytest.approx(sizes[i][1])
        assert not any(frame.overlaps(other) for other in frames[:i])
        assert -1e-6 <= frame.x0 < frame.x1 <= layout.width + 1e-6
        assert -1e-6 <= frame.y0 < frame.y1 <= layout.height + 1e-6
    for way, points in zip(ways, layout.ways, strict=True):
        assert points[0][1] == pytest.approx(frames[way.source].y1)
        assert points[-1][1] == pytest.approx(frames[way.target].y0)
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            assert (x0 == x1 and y0 <= y1) or y0 == y1, "down or sideways"
            line = Bbox([(min(x0, x1), y0 + 1e-9), (max(x0, x1), y1 - 1e-9)])
            for frame in frames:
                inside = frame.padded(-1e-6)
                assert line.x1 <= inside.x0 or line.x0 >= inside.x1 or line.y1 <= inside.y0 or line.y0 >= inside.y1
    for i, j in itertools.combinations(range(len(ways)), 2):
        lines = [[(*a, *b) for a, b in itertools.pairwise(layout.ways[way]) if a != b] for way in (i, j)]
        aside = [[(a, b, y) for a, y, b, end in those if y == end] for those in lines]
        down = [[(a, b, x) for x, a, end, b in those if x == end] for those in lines]
        exchange = any(max(abs(a - d), abs(b - c)) < 0.3 for (a, b, _), (c, d, _) in itertools.product(*aside))
        for pair in [*itertools.product(*aside), *(() if exchange else itertools.product(*down))]:
            (a, b, at), (c, d, other) = pair
            assert abs(at - other) > 0.1 or max(a, b) <= min(c, d) or max(c, d) <= min(a, b), "a line over another"
    labels = [
        Bbox.from_bounds(x, y - way.label[1] / 2, *way.label) for (x, y), way in zip(layout.labels, ways, strict=True)
    ]
    for i, label in enumerate(labels):
        assert not any(label.overlaps(other) for other in [*frames, *labels[:i]])


@given(st.data())
def test_the_layout_keeps_boxes_and_arrows_apart(data):
    n = data.draw(st.integers(2, 12))
    ways = [
        Way(source, target, (data.draw(st.floats(0.1, 2)), 0.3))
        for target in range(1, n)
        for source in data.draw(st.lists(st.integers(0, target - 1), min_size=target == n - 1, max_size=3))
    ]
    used = {way.source for way in ways}
    ways += [Way(box, n - 1, (0.5, 0.3)) for box in range(n - 1) if box not in used]  # one result
    sizes = [(data.draw(st.floats(0.3, 3)), data.draw(st.floats(0.2, 1))) for _ in range(n)]
    keeps_apart(sizes, ways)


def test_an_arrow_that_begins_below_where_another_ends_turns_first():
    pairs = [(0, 3), (0, 4), (2, 5), (1, 5), (1, 6), (3, 6), (4, 6), (5, 6)]
    keeps_apart([(1.0, 0.5)] * 7, [Way(source, target, (0.5, 0.3)) for source, target in pairs])


def test_a_main_chain_is_a_straight_line():
    loss, model = lenet()
    graph = ml.draw_graph(loss, names=model)
    (axes,) = graph.figure().axes
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    chain = [box for box, vertex in zip(boxes, graph.vertices, strict=True) if vertex.op]
    assert len(chain) == 18
    np.testing.assert_allclose(
        [b.get_x() + b.get_width() / 2 for b in chain], chain[0].get_x() + chain[0].get_width() / 2
    )


# ---------------------------------------------------------------- Graphviz


AWKWARD = 'a "quoted" <name> & $x_1^$\n\\n\x00 of a parameter, which is too long for its box'


def test_awkward_names_are_drawn_as_they_are():
    x = leaf(1)
    y = ops.sin(x)
    graph = ml.draw_graph(y, names={AWKWARD: x, '"$y_$"': y})
    figure = graph.figure()
    collides_nowhere(figure)
    assert figure.texts[0].get_text() == 'The graph of "$y_$": 1 op, 1 leaf'
    assert '"$y_$" = sin' in words(figure)
    shown = AWKWARD.replace("\n", " ").replace("\x00", " ")
    assert words(figure)[0] == "…" + shown[-39:]
    text = graph.dot()
    assert "&quot;$y_$&quot; = sin" in text
    assert "\x00" not in text


@needs_dot
@pytest.mark.parametrize(
    "sample", [*SAMPLES, lambda: (leaf(1), {}), lambda: (ops.sin(x := leaf(1)), {AWKWARD[:30]: x})]
)
def test_graphviz_reads_every_vertex_and_edge(sample):
    result, names = sample()
    graph = ml.draw_graph(result, names=names)
    read = subprocess.run(["dot", "-Tplain"], input=graph.dot().encode(), capture_output=True, check=True, timeout=60)
    assert not read.stderr
    lines = [line.split()[:3] for line in read.stdout.decode().splitlines()]
    assert sorted(line[1] for line in lines if line[0] == "node") == sorted(f"n{i}" for i in range(len(graph.vertices)))
    edges = sorted(tuple(line[1:]) for line in lines if line[0] == "edge")
    assert edges == sorted(2 * [(f"n{edge.source}", f"n{edge.target}") for edge in graph.edges])


@needs_dot
def test_graphviz_draws_the_way_back_from_the_end_to_the_beginning():
    x = leaf(1)
    svg = ml.draw_graph(ops.sin(x), renderer="graphviz")._repr_svg_()
    edges = re.findall(r'<g id="edge.*?</g>', svg, re.DOTALL)
    (_, forward_head), (_, back_head) = (
        [[float(point.split(",")[1]) for point in re.findall(r"-?[\d.]+,-?[\d.]+", shape)] for shape in shapes]
        for shapes in (re.findall(r' (?:d|points)="(.*?)"', edge) for edge in edges)
    )
    x_box, sin_box = (
        [float(y) for y in re.findall(r",(-?[\d.]+)", node)]
        for node in re.findall(r'<g id="node.*?<path[^>]* d="(.*?)"', svg, re.DOTALL)
    )
    assert max(x_box) - 1 <= min(back_head) < max(back_head) < max(x_box) + 10
    assert min(sin_box) - 10 < min(forward_head) < max(forward_head) <= min(sin_box) + 1
    assert ["stroke-dasharray" in edge for edge in edges] == [False, True]
    assert [f'stroke="{graph_drawing.BACKWARD}"' in edge for edge in edges] == [False, True]


@needs_dot
def test_names_survive_graphviz(tmp_path):
    x = leaf(1)
    name = 'a "b" <c> & $d_1^2'
    path = tmp_path / "graph.svg"
    ml.draw_graph(ops.sin(x), path, names={name: x}, renderer="graphviz")
    assert "a &quot;b&quot; &lt;c&gt; &amp; $d_1^2" in path.read_text(encoding="utf-8")


# ---------------------------------------------------------------- files


SIGNATURES = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("renderer", [pytest.param("graphviz", marks=needs_dot), "matplotlib"])
@pytest.mark.parametrize("form", SIGNATURES)
def test_the_ending_says_what_is_written(form, renderer, tmp_path):
    z, names = expression()
    path = tmp_path / f"graph.{form.upper()}"
    ml.draw_graph(z, path, names=names, renderer=renderer)
    assert path.read_bytes().startswith(SIGNATURES[form])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("renderer", [pytest.param("graphviz", marks=needs_dot), "matplotlib"])
def test_a_notebook_shows_a_picture_and_no_file_is_written(renderer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = ml.draw_graph(expression()[0], renderer=renderer)
    assert "<svg" in graph._repr_svg_()
    assert isinstance(graph.figure(), Figure)
    assert list(tmp_path.iterdir()) == []


def fake_dot(folder, script, monkeypatch):
    program = folder / "bin" / "dot"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


def test_auto_takes_graphviz_where_it_is_and_matplotlib_where_not(tmp_path, monkeypatch):
    fake_dot(tmp_path, f'cat > {tmp_path}/asked; echo "$@" > {tmp_path}/how; printf picture', monkeypatch)
    graph = ml.draw_graph(expression()[0])
    assert graph.draw(tmp_path / "a.png").read_bytes() == b"picture"
    assert (tmp_path / "asked").read_text(encoding="utf-8") == graph.dot()
    assert (tmp_path / "how").read_text() == "-Tpng -Gdpi=130\n"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert graph.draw(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(RuntimeError, match="no program 'dot' on the PATH; install Graphviz, or renderer='matplotlib'"):
        ml.draw_graph(expression()[0], renderer="graphviz")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'syntax error' >&2; printf half; exit 1", "Graphviz failed (syntax error); renderer='matplotlib'"),
        ("exec sleep 20", "Graphviz took more than 0.2 s; renderer='matplotlib' draws without it"),
    ],
)
def test_where_graphviz_fails_the_old_file_stays(script, message, tmp_path, monkeypatch):
    fake_dot(tmp_path, script, monkeypatch)
    monkeypatch.setattr(viz.graph, "PATIENCE", 0.2)
    (tmp_path / "graph.png").write_text("old")
    with pytest.raises(RuntimeError, match=re.escape(message)):
        ml.draw_graph(expression()[0], tmp_path / "graph.png", renderer="graphviz")
    assert (tmp_path / "graph.png").read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bin", "graph.png"]


@pytest.mark.parametrize("script", ["exit 1", "exec sleep 20"])
def test_auto_takes_matplotlib_where_graphviz_fails_or_takes_long(script, tmp_path, monkeypatch):
    fake_dot(tmp_path, script, monkeypatch)
    monkeypatch.setattr(viz.graph, "SHORT_PATIENCE", 0.2)
    picture = ml.draw_graph(expression()[0]).draw(tmp_path / "graph.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_given_name_is_not_given_again():
    x, y = leaf(1, 2), leaf(3, 4)
    graph = ml.draw_graph(x * y, names={"x₂": x})
    assert [vertex.name for vertex in graph.vertices] == ["x₂", "x₃", "v₁"]


@needs_dot
def test_where_the_picture_of_graphviz_cannot_be_written_nothing_is_left(tmp_path, monkeypatch):
    def half(self, content):
        with open(self, "wb") as file:
            file.write(content[:50])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="disk full"):
        ml.draw_graph(expression()[0], tmp_path / "graph.png", renderer="graphviz")
    assert list(tmp_path.iterdir()) == []


def test_where_matplotlib_fails_nothing_is_left(tmp_path, monkeypatch):
    def half(self, path, **_):
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="disk full"):
        ml.draw_graph(expression()[0], tmp_path / "graph.png", renderer="matplotlib")
    assert list(tmp_path.iterdir()) == []


def test_a_tall_picture_is_not_larger_than_an_image_may_be():
    assert graph_drawing.resolution(Figure(figsize=(8, 10))) == 130
    assert graph_drawing.resolution(Figure(figsize=(8, 1000))) * 1000 < 2**16
