"""Wherever primals and cotangents lie in memory, the gradient is the same."""

import pytest
import torch
import torch.nn.functional as F

from gradharness import Severity, Verdict, check
from gradharness.model.verdict import Fault
from gradharness.numerics.layout import reverse
from tests.checks.scripts import status  # noqa: F401 - a fixture
from tests.faults.planting import function, layer, randn, two_functions

X = randn((3, 4))
XY = randn((3, 4), (3, 4))


def examined(subject, inputs=X, **rest):
    return check(subject, inputs(), checks=("layout",), seed=0, **rest)


def flat(t):
    """The memory from the tensor's first element on, as a kernel reads it that takes it for contiguous."""
    memory = torch.as_strided(t, (t.untyped_storage().nbytes() // t.element_size(),), (1,), 0)
    memory = memory[t.storage_offset() :][: t.numel()]
    return F.pad(memory, (0, t.numel() - len(memory))).reshape(t.shape)


def dense(t):
    return flat(t.contiguous())


def rows(t):
    """Read with the strides that its shape would have, but for the last dim's own: right for most transposed ones."""
    return t if t.stride(-1) == 1 or t.dim() < 2 else flat(t)


def laid_like(like, values):
    """Written in memory order into what has the strides of ``like``."""
    out = torch.empty_like(like)
    size = out.untyped_storage().nbytes() // out.element_size()
    torch.as_strided(out, (size,), (1,), 0).copy_(values.reshape(-1))
    return out


def square(x):
    return x * x


def product(x, y):
    return x * y


FAULTS = {
    "cotangent read as contiguous": (
        square,
        lambda x, g: 2 * x * flat(g),
        lambda x, g: 2 * x * dense(g),
        X,
        "cotangent",
    ),
    "primal read as contiguous": (square, lambda x, g: 2 * flat(x) * g, lambda x, g: 2 * dense(x) * g, X, "`x` is"),
    "second primal read as contiguous": (
        product,
        lambda x, y, g: (g * flat(y), g * x),
        lambda x, y, g: (g * dense(y), g * x),
        XY,
        "`y` is",
    ),
    "gradient written in memory order": (
        square,
        lambda x, g: laid_like(x, 2 * x * g),
        lambda x, g: laid_like(torch.empty(x.shape, dtype=x.dtype), 2 * x * g),
        X,
        "`x` is transposed",
    ),
    "only unit last strides are looked at": (
        square,
        lambda x, g: 2 * x * rows(g),
        lambda x, g: 2 * x * g,
        X,
        "cotangent",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("form", [function, layer, two_functions])
def test_memory_taken_for_contiguous_is_found(name, form):
    forward, wrong, right, inputs, says = FAULTS[name]
    finding = examined(form(forward, wrong), inputs).findings[0]
    assert finding.fault is Fault.LAYOUT
    assert finding.message.startswith("the gradient of `x` is wrong when ")
    assert finding.message.endswith("right for a contiguous copy")
    assert says in finding.message
    witness = finding.witness
    tensors = [*dict(witness.arguments).values(), *witness.cotangents]
    assert any(not t.is_contiguous() or t.storage_offset() for t in tensors)
    assert examined(form(forward, right), inputs).verdict is Verdict.PASS


def test_what_a_sum_hands_to_backward():
    wrong = function(square, lambda x, g: 2 * x * (g if g.stride(0) else g * 2))
    message = examined(wrong).findings[0].message
    assert "when the cotangent is expanded (stride 0), as `.sum()` hands it to backward" in message


@pytest.mark.parametrize(
    "backward",
    [
        lambda x, g: (2 * x.reshape(-1) * g.view(-1)).reshape(x.shape),
        lambda x, g: g.mul_(2 * x),
    ],
    ids=["view", "in place"],
)
def test_a_backward_that_breaks_on_a_cotangent_is_an_error(backward):
    finding = examined(function(square, backward)).findings[0]
    assert finding.severity is Severity.ERROR
    assert finding.fault in (Fault.BACKWARD_RAISES, Fault.LAYOUT)
    assert "when the cotangent is" in finding.message


def test_a_manual_class_or_pair_that_breaks_on_a_cotangent_is_warned_about():
    def backward(x, g):
        return (2 * x.reshape(-1) * g.view(-1)).reshape(x.shape)

    for form in (layer, two_functions):
        report = examined(form(square, backward))
        assert report.verdict is Verdict.PASS
        assert [f.severity for f in report.findings] == [Severity.WARNING]
        assert "when the cotangent is transposed" in report.findings[0].message


def refuses(x, g):
    if not g.is_contiguous():
        raise ValueError("not this layout")
    return 2 * x * g


def in_its_own_words(x, g):
    return 2 * x * (g if g.is_contiguous() else raised(RuntimeError, "grad_output must be contiguous"))


def raised(kind, text):
    error = kind(text)
    raise error


def test_a_clear_refusal_is_warned_about():
    for backward in (refuses, in_its_own_words):
        report = examined(function(square, backward))
        assert report.verdict is Verdict.PASS
        assert [f.severity for f in report.findings] == [Severity.WARNING]
        assert "refuses its inputs" in report.findings[0].message


def test_a_forward_that_breaks_is_an_error_only_beside_a_reference_that_does_not():
    broken = function(lambda x: x.view(-1).square().view(x.shape), lambda x, g: 2 * x * g)
    alone = examined(broken)
    assert (alone.verdict, alone.findings[0].severity) == (Verdict.PASS, Severity.WARNING)
    beside = examined(broken, reference=square)
    assert (beside.verdict, beside.findings[0].fault) == (Verdict.FAIL, Fault.FORWARD_RAISES)


def test_a_forward_that_reads_memory_is_found():
    found = examined(function(lambda x: flat(x) ** 2, lambda x, g: 2 * flat(x) * g)).findings[0]
    assert found.fault is Fault.LAYOUT
    assert found.message.startswith("`output` is computed wrong when `x` is ")


def test_the_layout_of_the_output_is_taken_for_the_cotangents():
    """The cotangent is read right only where it is contiguous, while the output and what comes after it are not."""

    def laid(t):
        return t if t.is_contiguous() else flat(t)

    wrong = function(lambda x: reverse(x * x), lambda x, g: 2 * x * laid(g))
    assert examined(wrong).findings[0].fault is Fault.LAYOUT
    assert examined(function(lambda x: reverse(x * x), lambda x, g: 2 * x * g)).verdict is Verdict.PASS


def test_parts_of_one_buffer_and_one_tensor_twice():
    def shares(x, y):
        return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()

    wrong = function(product, lambda x, y, g: (g * y * (2 if shares(x, y) else 1), g * x))
    finding = examined(wrong, XY).findings[0]
    assert finding.fault is Fault.LAYOUT
    assert "one tensor" in finding.message or "one buffer" in finding.message
    assert any("as_strided" in line or "detach()" in line for line in finding.witness.steps)


def test_channels_last_images():
    def wrong(x, g):
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        return 2 * x * (3 * g if last else g)

    images = randn((2, 3, 4, 4))
    finding = examined(function(square, wrong), images).findings[0]
    assert finding.fault is Fault.LAYOUT
    image = dict(finding.witness.arguments)["x"]
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert not image.is_contiguous()
    assert examined(lambda x: F.avg_pool2d(x, 2), images).verdict is Verdict.PASS


CORRECT = {
    "recomputes": (lambda x: x.exp() * x.sum(), X),
    "ties": (lambda x: x.sort(-1).values.amax(0), X),
    "median": (lambda x: x.median(), X),
    "softmax": (lambda x: x.softmax(-1), X),
    "det": (torch.linalg.det, randn((3, 3))),
    "random": (lambda x: F.dropout(x) * 2, X),
    "attention": (F.scaled_dot_product_attention, randn((2, 3, 4), (2, 3, 4), (2, 3, 4))),
    "convolution": (F.conv2d, randn((1, 2, 4, 4), (2, 2, 3, 3))),
    "expanded output": (lambda x: x.sum().expand(3, 2), X),
    "saved contiguous": (function(square, lambda x, g: 2 * dense(x) * dense(g)), X),
}


@pytest.mark.parametrize("name", CORRECT)
def test_correct_code_passes(name):
    report = examined(*CORRECT[name])
    assert report.verdict is Verdict.PASS, report
    assert not report.findings


def test_an_example_in_another_layout_is_looked_at_as_it_is():
    def transposed():
        return (randn((4, 3))()[0].detach().mT.requires_grad_(),)

    assert examined(square, transposed).verdict is Verdict.PASS
    wrong = examined(function(square, lambda x, g: 2 * flat(x) * g), transposed)
    assert wrong.findings[0].fault is Fault.LAYOUT


def test_noise_is_no_fault_of_the_layout():
    def noisy(x, g):
        return 2 * x * g * (1 + 0.1 * torch.rand(()))

    assert examined(function(square, noisy)).results[0].verdict is not Verdict.FAIL


def test_a_loss_leaves_the_cotangent_alone():
    from gradharness import manual

    class Squares:
        def forward(self, x):
            self.x = x
            return x

        def backward(self, x, out, y):
            self.grad = 2 * flat(self.x - y)

    subject = manual(Squares, gradients=lambda obj: {"x": obj.grad}, loss=lambda out, y: ((out - y) ** 2).sum())
    assert examined(subject, XY).results[0].verdict is not Verdict.UNDECIDED


def test_nothing_to_look_at():
    assert examined(lambda x: x.detach() * 0 + x * 0).results[0].verdict is Verdict.UNDECIDED


MODULE = """
def flat(t):
    memory = torch.as_strided(t, (t.untyped_storage().nbytes() // t.element_size(),), (1,), 0)
    memory = memory[t.storage_offset():][:t.numel()]
    return torch.nn.functional.pad(memory, (0, t.numel() - len(memory))).reshape(t.shape)

class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        {line}
        return g * y, g * x

subject = Product.apply
"""
FIXED = MODULE.format(line="pass")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("g = flat(g)", (1, 0)),
        ("x = flat(x)", (1, 0)),
        ("g = g.view(-1).view(g.shape)", ("raised RuntimeError", 0)),
        ("g = g * (1 + (x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()))", (1, 0)),
    ],
)
def test_the_script_shows_it(status, line, expected):  # noqa: F811 - the fixture
    assert status(MODULE.format(line=line), FIXED, XY, "layout") == expected
