"""Shape relations, ranges and structure found from examples by running the forward."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gradharness.errors import UsageError
from gradharness.inputs.probe import infer_domain
from gradharness.inputs.recipe import example_recipe, realize
from gradharness.inputs.shapes import shape_text
from gradharness.inputs.specs import ChoiceSpec, ConstantSpec
from gradharness.inputs.styles import Kind, Style


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 17 * len(shape)), dtype=torch.float64)


class Forward:
    """The caller's part: runs the function, and says no where it raises or gives no numbers."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, arguments: tuple[object, ...]) -> bool:
        self.calls += 1
        try:
            outputs = self.function(*arguments)
        except Exception:
            return False
        outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        return all(bool(torch.isfinite(torch.abs(t)).all()) for t in outputs)


def infer(function, **examples):
    forward = Forward(function)
    domain = infer_domain(tuple(examples), tuple(examples.values()), forward)
    assert forward.calls <= 200
    return domain


def shapes(domain):
    return {label: shape_text(spec.shape) for label, _, spec in domain.leaves()}


def leaf(domain, label):
    return next(spec for name, _, spec in domain.leaves() if name == label)


def attention(q, k, v):
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v


def lstm_cell(x, h, c, wi, wh, b):
    i, f, g, o = (F.linear(x, wi) + F.linear(h, wh) + b).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def two_heads(x, w):
    heads = (x @ w).unflatten(-1, (2, x.shape[-1] // 2)).transpose(1, 2)
    return heads.softmax(-1)


def mean_pool(x, lengths):
    valid = (torch.arange(x.shape[1]) < lengths[:, None]).to(x.dtype)[..., None]
    return (x * valid).sum(1) / lengths[:, None]


def segment_max(x, index, n):
    return torch.stack([x[index == s].amax() for s in range(n)])


N = normal
GROUPS = {
    "linear": (F.linear, {"x": N(3, 4), "w": N(2, 4), "b": N(2)}, {"x": "n d", "w": "k d", "b": "k"}),
    "linear, equal sizes": (F.linear, {"x": N(3, 3), "w": N(3, 3), "b": N(3)}, {"x": "n d", "w": "k d", "b": "k"}),
    "matmul": (torch.matmul, {"a": N(2, 3), "b": N(3, 4)}, {"a": "n d", "b": "d k"}),
    "matmul, square": (torch.matmul, {"a": N(3, 3), "b": N(3, 3)}, {"a": "n d", "b": "d k"}),
    "attention": (
        attention,
        {"q": N(2, 4, 3), "k": N(2, 4, 3), "v": N(2, 4, 3)},
        {"q": "n d m", "k": "n p m", "v": "n p r"},
    ),
    "attention, all sizes equal": (
        attention,
        {"q": N(4, 4, 4), "k": N(4, 4, 4), "v": N(4, 4, 4)},
        {"q": "n d m", "k": "n p m", "v": "n p r"},
    ),
    "layer_norm": (
        lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b),
        {"x": N(8, 5), "w": N(5), "b": N(5)},
        {"x": "n d", "w": "d", "b": "d"},
    ),
    "rnn cell": (
        lambda x, h, u, w: torch.tanh(x @ u + h @ w),
        {"x": N(3, 2), "h": N(3, 4), "u": N(2, 5), "w": N(4, 5)},
        {"x": "n d", "h": "n k", "u": "d m", "w": "k m"},
    ),
    "rnn cell that returns its state": (
        lambda x, h, u, w: torch.tanh(torch.tanh(x @ u + h @ w) @ w),
        {"x": N(3, 2), "h": N(3, 4), "u": N(2, 4), "w": N(4, 4)},
        {"x": "n d", "h": "n k", "u": "d k", "w": "k k"},
    ),
    "lstm cell": (
        lstm_cell,
        {"x": N(2, 3), "h": N(2, 5), "c": N(2, 5), "wi": N(20, 3), "wh": N(20, 5), "b": N(20)},
        {"x": "n d", "h": "n k", "c": "n m", "wi": "4*m d", "wh": "4*m k", "b": "4*m"},
    ),
    "conv2d": (
        F.conv2d,
        {"x": N(2, 3, 6, 7), "w": N(4, 3, 3, 2), "b": N(4)},
        {"x": "n d k m", "w": "p d q r", "b": "p"},
    ),
    "gather": (
        lambda x, i: x[i],
        {"x": N(6, 3), "i": torch.tensor([1, 5, 0, 4])},
        {"x": "n d", "i": "k"},
    ),
    "embedding": (
        F.embedding,
        {"i": torch.tensor([[1, 2, 0], [4, 3, 1]]), "w": N(5, 3)},
        {"i": "n d", "w": "k m"},
    ),
    "cross entropy": (
        lambda x, w, b, t: F.cross_entropy(x @ w + b, t),
        {"x": N(5, 3), "w": N(3, 4), "b": N(4), "t": torch.tensor([0, 3, 2, 1, 1])},
        {"x": "n d", "w": "d k", "b": "k", "t": "n"},
    ),
    "segment max": (
        segment_max,
        {"x": N(7), "index": torch.tensor([0, 1, 0, 2, 1, 0, 2]), "n": 3},
        {"x": "d", "index": "d"},
    ),
    "softmax": (torch.softmax, {"x": N(4, 5), "dim": -1}, {"x": "n d"}),
    "huber": (
        lambda x, t, delta: F.huber_loss(x, t, delta=delta) if x.shape == t.shape else 1 / 0,
        {"x": N(4, 3).requires_grad_(), "t": N(4, 3, seed=1), "delta": 1.0},
        {"x": "n d", "t": "n d"},
    ),
    "add, same": (torch.add, {"a": N(3, 4), "b": N(3, 4)}, {"a": "n d", "b": "n d"}),
    "add, row": (torch.add, {"a": N(3, 4), "b": N(1, 4)}, {"a": "n d", "b": "#n d"}),
    "add, vector": (torch.add, {"a": N(3, 4), "b": N(4)}, {"a": "n d", "b": "d"}),
    "add, both of one row": (torch.add, {"a": N(1, 4), "b": N(1, 4)}, {"a": "n d", "b": "n d"}),
    "outer sum": (torch.add, {"a": N(3, 1), "b": N(1, 4)}, {"a": "n #d", "b": "#n d"}),
    "sum of eight": (
        lambda *tensors: sum(tensors),
        {name: N(3, 3) for name in "stuvwxyz"},
        dict.fromkeys("stuvwxyz", "n d"),
    ),
    "mean of a sequence": (
        mean_pool,
        {"x": N(3, 4, 2), "lengths": torch.tensor([4, 2, 3])},
        {"x": "n d k", "lengths": "n"},
    ),
    "cholesky": (torch.linalg.cholesky, {"a": N(4, 4) @ N(4, 4).T + torch.eye(4)}, {"a": "n n"}),
    "cross product": (torch.linalg.cross, {"a": N(5, 3), "b": N(5, 3)}, {"a": "n 3", "b": "n 3"}),
    "list": (lambda xs: torch.cat(xs), {"xs": [N(2, 3), N(4, 3)]}, {"xs[0]": "n d", "xs[1]": "k d"}),
    "dict": (
        lambda p, x: x @ p["w"] + p["b"],
        {"p": {"w": N(3, 2), "b": N(2)}, "x": N(4, 3)},
        {"p['w']": "n d", "p['b']": "d", "x": "k n"},
    ),
    "complex": (
        lambda x, w: x @ w.T,
        {"x": torch.complex(N(3, 4), N(3, 4)), "w": torch.complex(N(2, 4), N(2, 4))},
        {"x": "n d", "w": "k d"},
    ),
    "scalar": (lambda x, s: x / s, {"x": N(3, 4), "s": torch.tensor(0.1)}, {"x": "n d", "s": ""}),
    "group norm": (lambda x: F.group_norm(x, 2), {"x": N(2, 4, 3)}, {"x": "n d k"}),
    "heads": (two_heads, {"x": N(2, 3, 4), "w": N(4, 4)}, {"x": "n d k", "w": "k k"}),
    "mask": (
        lambda x, m: torch.where(m, x, 0.0) if x.shape == m.shape else 1 / 0,
        {"x": N(3, 4), "m": N(3, 4) > 0},
        {"x": "n d", "m": "n d"},
    ),
}


@pytest.mark.parametrize("case", GROUPS)
def test_sizes_that_change_together(case):
    function, examples, expected = GROUPS[case]
    names = iter([*"ndkmpqrstuv"])
    domain = infer(function, **examples)
    assert _renamed(shapes(domain)) == _renamed(expected), next(names)


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
    from gradharness.inputs.probe import own_sizes

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
    primals = realize(domain, example_recipe(domain))
    for path in (
        (n, *p)
        for n, v in enumerate(examples.values())
        for p in __import__("gradharness").numerics.tree.tensor_paths(v)
    ):
        got, own = primals.values, tuple(examples.values())
        for key in path:
            got, own = got[key], own[key]
        assert torch.equal(got, own.detach().to(got.dtype))
        assert got.data_ptr() != own.data_ptr()
        assert not got.requires_grad


def test_integers_are_tied_to_the_size_that_bounds_them():
    gather = infer(lambda x, i: x[i], x=N(6, 3), i=torch.tensor([1, 5, 0, 4]))
    assert leaf(gather, "i").below == leaf(gather, "x").shape[0].name
    assert all(rule.minimum == 0 for rule in gather.dims)
    few = infer(lambda x, i: x[i], x=N(6, 3), i=torch.tensor([1, 2, 1, 0]))
    assert leaf(few, "i").below == leaf(few, "x").shape[0].name
    segments = infer(segment_max, x=N(7), index=torch.tensor([0, 1, 0, 2, 1, 0, 2]), n=3)
    assert (leaf(segments, "index").below, leaf(segments, "index").cover) == ("n", True)
    lengths = leaf(infer(mean_pool, x=N(3, 4, 2), lengths=torch.tensor([4, 2, 3])), "lengths")
    assert (lengths.low, lengths.below, lengths.inclusive) == (1, "d", True)


def test_ignored_class_stays_special():
    target = torch.tensor([0, 3, -100, 1, 1])
    domain = infer(lambda x, t: F.cross_entropy(x, t), x=N(5, 4), t=target)
    assert leaf(domain, "t").special == (-100,)
    assert leaf(domain, "t").below == leaf(domain, "x").shape[1].name


def test_free_integers_keep_their_range():
    spec = leaf(infer(lambda x, k: x * k, x=N(4), k=torch.tensor([-3, 2, 5, 0])), "k")
    assert (spec.low, spec.below) == (-3, 6)


def test_offsets_stay_sorted():
    domain = infer(
        lambda w, i, o: F.embedding_bag(i, w, o),
        w=N(6, 3),
        i=torch.tensor([1, 2, 0, 5, 3, 1, 1]),
        o=torch.tensor([0, 2, 4]),
    )
    assert leaf(domain, "o").sorted
    assert leaf(domain, "i").below == leaf(domain, "w").shape[0].name


def test_duplicates_are_drawn_unless_rejected():
    def distinct(x, i):
        assert len(set(i.tolist())) == len(i)
        return x[i]

    assert leaf(infer(distinct, x=N(6, 3), i=torch.tensor([1, 5, 0])), "i").unique
    assert not leaf(infer(lambda x, i: x[i], x=N(6, 3), i=torch.tensor([1, 5, 0])), "i").unique


@pytest.mark.parametrize(
    ("function", "value", "region"),
    [
        (torch.sin, N(4, 5), (None, None)),
        (torch.log, N(4, 5).exp(), (0.0, None)),
        (torch.logit, N(4, 5).sigmoid(), (0.0, 1.0)),
        (lambda x: torch.log(-x), -N(4, 5).exp(), (None, 0.0)),
        (torch.acos, N(4, 5).tanh(), (-1.0, 1.0)),
        (torch.sin, N(4).exp(), (None, None)),
        (torch.log, N(4).exp(), (0.0, None)),
    ],
)
def test_region_of_the_values(function, value, region):
    spec = leaf(infer(function, x=value), "x")
    low, high = region
    assert spec.low is None if low is None and high is None else True
    if low is not None:
        assert spec.low >= low
    if high is not None:
        assert spec.high <= high


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (N(3, 3) @ N(3, 3).T + torch.eye(3), Kind.SPD),
        (torch.eye(3, dtype=torch.float64), Kind.SPD),
        (N(3, 3) + N(3, 3).T - 9 * torch.eye(3), Kind.SYMMETRIC),
        (N(3, 3).tril(), Kind.LOWER),
        (N(3, 4).softmax(-1), Kind.UNIT_SUM),
        (torch.ones(3, 3), Kind.PLAIN),
        (torch.zeros(3, 3), Kind.PLAIN),
        (N(3, 3), Kind.PLAIN),
        (N(1, 1), Kind.PLAIN),
    ],
)
def test_structure_of_the_values(value, kind):
    assert leaf(infer(torch.sin, x=value), "x").kind is kind


def test_special_values_fall_back_to_the_neighbourhood_of_the_example():
    def picky(x):
        return x if bool(((x - centre).abs() < 0.3).all()) else 1 / 0

    centre = N(3, 4)
    domain = infer(lambda x: picky(x) if x.shape == centre.shape else 1 / 0, x=centre)
    assert leaf(domain, "x").kind is Kind.NEAR


def test_styles_that_the_forward_rejects_are_not_drawn():
    domain = infer(lambda x: x if bool((x.abs() < 8).all()) else 1 / 0, x=N(3, 4))
    assert Style.NORMAL in domain.styles
    assert Style.OFFSET not in domain.styles


def test_plain_arguments_take_the_values_that_are_accepted():
    def function(x, dim, keepdim, p, mode, nothing):
        assert mode == "sum"
        assert nothing is None
        assert 0 <= p < 1
        return x.sum(dim, keepdim=keepdim) * p

    domain = infer(function, x=N(3, 4), dim=-1, keepdim=True, p=0.5, mode="sum", nothing=None)
    specs = dict(zip(domain.names, domain.specs, strict=True))
    assert set(specs["dim"].values) == {-1, 0, 1, -2}
    assert specs["dim"].values[0] == -1
    assert specs["keepdim"] == ChoiceSpec((True, False))
    assert specs["p"].values[:2] == (0.5, 0.25)
    assert all(0 <= p < 1 for p in specs["p"].values)
    assert specs["mode"] == ConstantSpec("sum")
    assert specs["nothing"] == ConstantSpec(None)


def test_gradient_is_asked_where_the_example_asks():
    some = infer(torch.mul, a=N(3).requires_grad_(), b=N(3))
    assert some.differentiable == ("a",)
    assert infer(torch.mul, a=N(3), b=N(3)).differentiable == ("a", "b")
    nested = infer(lambda xs: xs[0] * xs[1], xs=(N(3), N(3).requires_grad_()))
    assert nested.differentiable == ("xs[1]",)


def test_no_differentiable_input():
    with pytest.raises(UsageError, match="no differentiable input among i"):
        infer(lambda i: i, i=torch.tensor([1, 2]))


def test_forward_that_rejects_everything_gives_the_example_alone():
    domain = infer(lambda x: 1 / 0, x=N(3, 4))
    assert shapes(domain) == {"x": "3 4"}
    assert any("fixed at 3" in line for line in domain.describe())


def test_domain_says_what_it_found():
    domain = infer(torch.linalg.cross, a=N(5, 3), b=N(5, 3))
    assert domain.describe() == (
        "a: float[n, 3] real (from the example)",
        "b: float[n, 3] real (from the example)",
        "n: any size",
        "a: axis 1 is fixed at 3 (the forward rejects other sizes)",
        "b: axis 1 is fixed at 3 (the forward rejects other sizes)",
    )


def test_probing_leaves_the_example_alone():
    x = N(3, 4).requires_grad_()
    before = x.detach().clone()
    infer(lambda x: x.mul_(2), x=x)
    assert torch.equal(x, before)
