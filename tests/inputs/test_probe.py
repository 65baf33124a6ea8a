"""Shape relations, ranges and structure found from examples by running the forward."""

import pytest
import torch
from torch.nn import functional

from gradharness.inputs.probe import own_sizes
from gradharness.inputs.recipe import example_recipe, realize
from gradharness.numerics import tree
from tests.inputs.probing import Forward, infer, mean_pool, normal, segment_max, shapes


def attention(q, k, v):
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v


def lstm_cell(x, h, c, wi, wh, b):
    i, f, g, o = (functional.linear(x, wi) + functional.linear(h, wh) + b).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def two_heads(x, w):
    heads = (x @ w).unflatten(-1, (2, x.shape[-1] // 2)).transpose(1, 2)
    return heads.softmax(-1)


GROUPS = {
    "linear": (
        functional.linear,
        {"x": normal(3, 4), "w": normal(2, 4), "b": normal(2)},
        {"x": "n d", "w": "k d", "b": "k"},
    ),
    "linear, equal sizes": (
        functional.linear,
        {"x": normal(3, 3), "w": normal(3, 3), "b": normal(3)},
        {"x": "n d", "w": "k d", "b": "k"},
    ),
    "matmul": (torch.matmul, {"a": normal(2, 3), "b": normal(3, 4)}, {"a": "n d", "b": "d k"}),
    "matmul, square": (torch.matmul, {"a": normal(3, 3), "b": normal(3, 3)}, {"a": "n d", "b": "d k"}),
    "attention": (
        attention,
        {"q": normal(2, 4, 3), "k": normal(2, 4, 3), "v": normal(2, 4, 3)},
        {"q": "n d m", "k": "n p m", "v": "n p r"},
    ),
    "attention, all sizes equal": (
        attention,
        {"q": normal(4, 4, 4), "k": normal(4, 4, 4), "v": normal(4, 4, 4)},
        {"q": "n d m", "k": "n p m", "v": "n p r"},
    ),
    "layer_norm": (
        lambda x, w, b: functional.layer_norm(x, x.shape[-1:], w, b),
        {"x": normal(8, 5), "w": normal(5), "b": normal(5)},
        {"x": "n d", "w": "d", "b": "d"},
    ),
    "rnn cell": (
        lambda x, h, u, w: torch.tanh(x @ u + h @ w),
        {"x": normal(3, 2), "h": normal(3, 4), "u": normal(2, 5), "w": normal(4, 5)},
        {"x": "n d", "h": "n k", "u": "d m", "w": "k m"},
    ),
    "rnn cell that returns its state": (
        lambda x, h, u, w: torch.tanh(torch.tanh(x @ u + h @ w) @ w),
        {"x": normal(3, 2), "h": normal(3, 4), "u": normal(2, 4), "w": normal(4, 4)},
        {"x": "n d", "h": "n k", "u": "d k", "w": "k k"},
    ),
    "lstm cell": (
        lstm_cell,
        {
            "x": normal(2, 3),
            "h": normal(2, 5),
            "c": normal(2, 5),
            "wi": normal(20, 3),
            "wh": normal(20, 5),
            "b": normal(20),
        },
        {"x": "n d", "h": "n k", "c": "n m", "wi": "4*m d", "wh": "4*m k", "b": "4*m"},
    ),
    "conv2d": (
        functional.conv2d,
        {"x": normal(2, 3, 6, 7), "w": normal(4, 3, 3, 2), "b": normal(4)},
        {"x": "n d k m", "w": "p d q r", "b": "p"},
    ),
    "gather": (
        lambda x, i: x[i],
        {"x": normal(6, 3), "i": torch.tensor([1, 5, 0, 4])},
        {"x": "n d", "i": "k"},
    ),
    "embedding": (
        functional.embedding,
        {"i": torch.tensor([[1, 2, 0], [4, 3, 1]]), "w": normal(5, 3)},
        {"i": "n d", "w": "k m"},
    ),
    "cross entropy": (
        lambda x, w, b, t: functional.cross_entropy(x @ w + b, t),
        {"x": normal(5, 3), "w": normal(3, 4), "b": normal(4), "t": torch.tensor([0, 3, 2, 1, 1])},
        {"x": "n d", "w": "d k", "b": "k", "t": "n"},
    ),
    "fewer labels than rows are accepted": (
        lambda x, t: -x.log_softmax(-1).gather(1, t[:, None]).mean(),
        {"x": normal(4, 6), "t": torch.tensor([3, 1, 2, 5])},
        {"x": "n d", "t": "n"},
    ),
    "a table may be longer than the sequence": (
        lambda x, table: x * table[: len(x)] if x.shape[1:] == table.shape[1:] else 1 / 0,
        {"x": normal(3, 5), "table": normal(3, 5, seed=1)},
        {"x": "n d", "table": "n d"},
    ),
    "segment max": (
        segment_max,
        {"x": normal(7), "index": torch.tensor([0, 1, 0, 2, 1, 0, 2]), "n": 3},
        {"x": "d", "index": "d"},
    ),
    "softmax": (torch.softmax, {"x": normal(4, 5), "dim": -1}, {"x": "n d"}),
    "huber": (
        lambda x, t, delta: functional.huber_loss(x, t, delta=delta) if x.shape == t.shape else 1 / 0,
        {"x": normal(4, 3).requires_grad_(), "t": normal(4, 3, seed=1), "delta": 1.0},
        {"x": "n d", "t": "n d"},
    ),
    "add, same": (torch.add, {"a": normal(3, 4), "b": normal(3, 4)}, {"a": "n d", "b": "n d"}),
    "add, row": (torch.add, {"a": normal(3, 4), "b": normal(1, 4)}, {"a": "n d", "b": "#n d"}),
    "add, vector": (torch.add, {"a": normal(3, 4), "b": normal(4)}, {"a": "n d", "b": "d"}),
    "add, both of one row": (torch.add, {"a": normal(1, 4), "b": normal(1, 4)}, {"a": "n d", "b": "n d"}),
    "outer sum": (torch.add, {"a": normal(3, 1), "b": normal(1, 4)}, {"a": "n #d", "b": "#n d"}),
    "sum of eight": (
        lambda *tensors: sum(tensors),
        {name: normal(3, 3) for name in "stuvwxyz"},
        dict.fromkeys("stuvwxyz", "n d"),
    ),
    "mean of a sequence": (
        mean_pool,
        {"x": normal(3, 4, 2), "lengths": torch.tensor([4, 2, 3])},
        {"x": "n d k", "lengths": "n"},
    ),
    "cholesky": (torch.linalg.cholesky, {"a": normal(4, 4) @ normal(4, 4).T + torch.eye(4)}, {"a": "n n"}),
    "cross product": (torch.linalg.cross, {"a": normal(5, 3), "b": normal(5, 3)}, {"a": "n 3", "b": "n 3"}),
    "list": (torch.cat, {"xs": [normal(2, 3), normal(4, 3)]}, {"xs[0]": "n d", "xs[1]": "k d"}),
    "dict": (
        lambda p, x: x @ p["w"] + p["b"],
        {"p": {"w": normal(3, 2), "b": normal(2)}, "x": normal(4, 3)},
        {"p['w']": "n d", "p['b']": "d", "x": "k n"},
    ),
    "complex": (
        lambda x, w: x @ w.T,
        {"x": torch.complex(normal(3, 4), normal(3, 4)), "w": torch.complex(normal(2, 4), normal(2, 4))},
        {"x": "n d", "w": "k d"},
    ),
    "scalar": (lambda x, s: x / s, {"x": normal(3, 4), "s": torch.tensor(0.1)}, {"x": "n d", "s": ""}),
    "group norm": (lambda x: functional.group_norm(x, 2), {"x": normal(2, 4, 3)}, {"x": "n d k"}),
    "heads": (two_heads, {"x": normal(2, 3, 4), "w": normal(4, 4)}, {"x": "n d k", "w": "k k"}),
    "mask": (
        lambda x, m: torch.where(m, x, 0.0) if x.shape == m.shape else 1 / 0,
        {"x": normal(3, 4), "m": normal(3, 4) > 0},
        {"x": "n d", "m": "n d"},
    ),
}


@pytest.mark.parametrize("case", GROUPS)
def test_sizes_that_change_together(case):
    function, examples, expected = GROUPS[case]
    assert _renamed(shapes(infer(function, **examples))) == _renamed(expected)


def _renamed(found):
    """Dims named in the order of their appearance: which letter was taken does not matter."""
    order = {}
    text = {}
    for label, shape in found.items():
        axes = []
        for axis in shape.split():
            mark = axis.rstrip("abcdefghijklmnopqrstuvwxyz")
            name = axis[len(mark) :]
            axes.append(mark + str(order.setdefault(name, f"<{len(order)}>")) if name else axis)
        text[label] = " ".join(axes)
    return text


@pytest.mark.parametrize("case", GROUPS)
def test_drawn_inputs_are_accepted(case):
    """At the example's own sizes, whatever the style, most of what is drawn is valid."""
    function, examples, _ = GROUPS[case]
    domain = infer(function, **examples)
    accepts = Forward(function)
    drawn = [own_sizes(domain, style=style, seed=seed) for style in domain.styles for seed in range(20, 24)]
    accepted = sum(accepts(realize(domain, recipe).values) for recipe in drawn)
    assert accepted >= 0.8 * len(drawn)


@pytest.mark.parametrize("case", GROUPS)
def test_example_comes_back_as_it_was(case):
    function, examples, _ = GROUPS[case]
    domain = infer(function, **examples)
    values = realize(domain, example_recipe(domain)).values
    for (path, got), (same, own) in zip(tree.leaves(values), tree.leaves(tuple(examples.values())), strict=True):
        assert path == same
        if isinstance(own, torch.Tensor):
            assert torch.equal(got, own.detach())
            assert got.data_ptr() != own.data_ptr()
            assert not got.requires_grad
