"""Transforms: a wrong rule is found, a missing one is not asked, and what raises is only told."""

import pytest
import torch

from gradharness import Severity, check, pair
from gradharness.model.verdict import Fault, Verdict
from tests.checks.repeating import Square, exit_status, looked, randn, statuses

F64 = torch.float64


class Rules(torch.autograd.Function):
    """x @ w, with everything that can be defined, rightly."""

    @staticmethod
    def forward(x, w):
        return x @ w

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w.mT, x.mT @ g

    @staticmethod
    def jvp(ctx, dx, dw):
        x, w = ctx.saved_tensors
        return dx @ w + x @ dw

    @staticmethod
    def vmap(info, in_dims, x, w):
        x, w = (t if d is None else t.movedim(d, 0) for t, d in zip((x, w), in_dims, strict=True))
        return x @ w, 0


class NegativeTangent(Rules):
    @staticmethod
    def jvp(ctx, dx, dw):
        return -Rules.jvp(ctx, dx, dw)


class DroppedTangent(Rules):
    @staticmethod
    def jvp(ctx, dx, dw):
        return dx @ ctx.saved_tensors[1]


class DoubledTangent(Rules):
    @staticmethod
    def jvp(ctx, dx, dw):
        return 2 * Rules.jvp(ctx, dx, dw)


class ScaledBatch(Rules):
    @staticmethod
    def vmap(info, in_dims, x, w):
        y, dim = Rules.vmap(info, in_dims, x, w)
        return y / info.batch_size, dim


class FirstOfBatch(Rules):
    """Takes every sample to have the first one's w."""

    @staticmethod
    def vmap(info, in_dims, x, w):
        return Rules.vmap(info, (in_dims[0], None), x, w if in_dims[1] is None else w.select(in_dims[1], 0))


class DetachedBatch(Rules):
    """Right outputs, and no way back."""

    @staticmethod
    def vmap(info, in_dims, x, w):
        return Rules.vmap(info, in_dims, x.detach(), w)


class Generated(torch.autograd.Function):
    generate_vmap_rule = True
    forward, setup_context, backward, jvp = Rules.forward, Rules.setup_context, Rules.backward, Rules.jvp


class Refusing(Rules):
    @staticmethod
    def jvp(ctx, dx, dw):
        raise NotImplementedError("not yet")

    @staticmethod
    def vmap(info, in_dims, x, w):
        raise NotImplementedError("not yet")


class Largest(torch.autograd.Function):
    """The largest of the last axis, and where it is."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        values, places = x.max(-1)
        return values, places

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])

    @staticmethod
    def backward(ctx, g, _):
        x, places = ctx.saved_tensors
        return torch.zeros_like(x).scatter_add(-1, places.unsqueeze(-1), g.unsqueeze(-1))


class LargestOfBatch(Largest):
    generate_vmap_rule = False

    @staticmethod
    def vmap(info, in_dims, x):
        x = x.movedim(in_dims[0], 0)
        values, places = torch.func.vmap(lambda y: y.detach().max(-1))(x)
        return (values + 0 * x.sum(-1), places), (0, 0)


class Flat(torch.autograd.Function):
    """Sums of the last axis, in the shape that one sample has."""

    @staticmethod
    def forward(x):
        return x.sum(-1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.size = inputs[0].shape

    @staticmethod
    def backward(ctx, g):
        return g.unsqueeze(-1).expand(ctx.size)


class Hiding(Square):
    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.x * g


class Aliased(Square):
    """Fills, in backward, a buffer that it has saved and also holds."""

    @staticmethod
    def forward(ctx, x):
        ctx.buffer = torch.zeros_like(x)
        ctx.save_for_backward(x, ctx.buffer)
        return x * x

    @staticmethod
    def backward(ctx, g):
        x, slope = ctx.saved_tensors
        ctx.buffer.data.copy_(2 * x)
        return slope * g


class Reentrant(Square):
    """Its forward knows whether a backward is going on."""

    busy = False

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(torch.zeros_like(x) if Reentrant.busy else 2 * x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        Reentrant.busy = True
        (slope,) = ctx.saved_tensors
        Reentrant.busy = False
        return slope * g


SHAPES = ((4, 4), (4, 4))
WRONG = [
    (NegativeTangent, Fault.WRONG_JVP, "NegativeTangent.jvp is wrong"),
    (DroppedTangent, Fault.WRONG_JVP, "gradient and differences give"),
    (DoubledTangent, Fault.WRONG_JVP, "⟨w, J·v⟩ comes out as"),
    (ScaledBatch, Fault.WRONG_VMAP, "ScaledBatch gives other outputs under vmap"),
    (FirstOfBatch, Fault.WRONG_VMAP, "with every input batched"),
    (DetachedBatch, Fault.WRONG_VMAP, "the gradient through vmap"),
]


@pytest.mark.parametrize(("wrong", "fault", "says"), WRONG, ids=[w.__name__ for w, _, _ in WRONG])
def test_a_wrong_rule_is_found_and_its_script_shows_it(wrong, fault, says):
    result = looked(wrong, "transforms", *SHAPES)
    assert result.verdict is Verdict.FAIL
    found = result.findings[0]
    assert found.fault is fault
    assert says in found.message
    assert statuses(found, wrong, Rules) == (1, 0)


@pytest.mark.parametrize("right", [Rules, Generated])
def test_right_rules_pass(right):
    result = looked(right, "transforms", *SHAPES)
    assert (result.verdict, result.findings) == (Verdict.PASS, ())


def test_an_output_of_indices_is_no_obstacle():
    result = looked(Largest, "transforms", (3, 4))
    assert (result.verdict, result.findings) == (Verdict.PASS, ())
    result = looked(LargestOfBatch, "transforms", (3, 4))
    assert result.verdict is Verdict.FAIL
    assert statuses(result.findings[0], LargestOfBatch, Largest) == (1, 0)


def test_a_rule_is_seen_within_other_code():
    assert looked(lambda x, w: NegativeTangent.apply(x, w).sin(), "transforms", *SHAPES).verdict is Verdict.FAIL
    assert looked(lambda x, w: Rules.apply(x, w).sin(), "transforms", *SHAPES).verdict is Verdict.PASS


def test_what_is_not_defined_is_not_asked():
    for subject in (Square, Flat, torch.nn.functional.silu, lambda x: torch.nn.functional.dropout(x**2)):
        result = looked(subject, "transforms")
        assert (result.verdict, result.findings) == (Verdict.PASS, ())
    assert looked(pair(lambda x: x**2, lambda x, g: 2 * x * g), "transforms").verdict is Verdict.SKIPPED


def test_a_rule_that_raises_is_told_and_no_more():
    result = looked(Refusing, "transforms", *SHAPES)
    assert result.verdict is Verdict.PASS
    assert {f.fault for f in result.findings} == {Fault.WRONG_JVP, Fault.WRONG_VMAP}
    assert all(f.severity is Severity.WARNING and "not yet" in f.message for f in result.findings)
    assert [statuses(f, Refusing, Rules) for f in result.findings] == [(1, 0), (1, 0)]
    assert looked(lambda x, w: Refusing.apply(x, w) * 1, "transforms", *SHAPES).findings == ()


def test_a_wrong_gradient_is_not_this_checks_finding():
    class Wrong(Rules):
        @staticmethod
        def backward(ctx, g):
            return tuple(3 * t for t in Rules.backward(ctx, g))

    assert looked(Wrong, "transforms", *SHAPES).verdict is not Verdict.FAIL


def test_a_tensor_that_no_hook_sees_is_told():
    (found,) = looked(Hiding, "transforms").findings
    assert (found.fault, found.severity) == (Fault.HIDDEN_TENSOR, Severity.WARNING)
    assert "Hiding keeps a tensor as ctx.x" in found.message
    assert statuses(found, Hiding, Square) == (1, 0)


SAVED = [(Aliased, "where saved tensors are copied away"), (Reentrant, "where forward is computed again in backward")]


@pytest.mark.parametrize(("wrong", "says"), SAVED, ids=["copied", "computed again"])
def test_a_gradient_that_changes_with_its_saved_tensors_is_found_and_its_script_shows_it(wrong, says):
    result = looked(wrong, "transforms")
    assert result.verdict is Verdict.FAIL
    assert (result.findings[0].fault, says in result.findings[0].message) == (Fault.WRONG_TRANSFORM, True)
    assert statuses(result.findings[0], wrong, Square) == (1, 0)


class Growing(Square):
    """Saves one more tensor in every other call."""

    calls = 0

    @staticmethod
    def forward(ctx, x):
        Growing.calls += 1
        ctx.save_for_backward(x, *[x * 1] * (Growing.calls % 2))
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


def test_another_number_of_saved_tensors_is_told():
    (found,) = looked(Growing, "transforms").findings
    assert (found.fault, found.severity) == (Fault.WRONG_TRANSFORM, Severity.WARNING)
    assert "when it was called again" in found.message


# --- modules -------------------------------------------------------------------------------------------------------


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4, 2, dtype=F64))
        self.norm = torch.nn.BatchNorm1d(2, dtype=F64)

    def forward(self, x):
        return self.norm(x @ self.weight)


class Holding(Linear):
    def __init__(self):
        super().__init__()
        self.weights = [self.weight]

    def forward(self, x):
        return x @ self.weights[0]


def test_a_module_that_holds_on_to_its_parameters_fails_under_functional_call():
    result = looked(Holding(), "transforms")
    assert result.verdict is Verdict.FAIL
    assert "functional_call" in result.findings[0].message
    assert looked(Linear(), "transforms").verdict is Verdict.PASS


# --- custom ops ----------------------------------------------------------------------------------------------------


def custom(name, backward, fake=torch.empty_like, forward=torch.square):
    """A custom op with all that belongs to it."""

    @torch.library.custom_op(f"gradharness_tests::{name}", mutates_args=())
    def op(x: torch.Tensor) -> torch.Tensor:
        return forward(x)

    if fake is not None:
        op.register_fake(fake)
    op.register_autograd(
        lambda ctx, g: backward(ctx.saved_tensors[0], g),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
    )
    return op


def right(x, g):
    return 2 * x * g


@torch.library.custom_op("gradharness_tests::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    return x.square()


@torch.library.custom_op("gradharness_tests::misshapen", mutates_args=())
def misshapen(x: torch.Tensor) -> torch.Tensor:
    return x.square()


square.register_fake(torch.empty_like)
misshapen.register_fake(lambda x: x.new_empty((*x.shape, 1)))
for _op in (square, misshapen):
    _op.register_autograd(
        lambda ctx, g: right(ctx.saved_tensors[0], g),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
    )
mutating = custom("mutating", right, forward=lambda x: x.add_(1.0).square())


@pytest.mark.parametrize("op", [square, square._opoverload, torch.ops.gradharness_tests.square])
def test_a_custom_op_is_a_subject_in_every_form(op, capfd):
    report = check(op, randn((3, 4)), checks=("vjp", "contract", "double_backward", "transforms"), seed=0)
    assert [r.verdict for r in report.results] == [Verdict.PASS] * 4
    assert report.findings == ()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("op", "says"), [(misshapen, "test_faketensor fails"), (mutating, "test_schema fails")])
def test_a_wrong_registration_is_found_and_its_script_shows_it(op, says):
    result = looked(op, "transforms")
    assert result.verdict is Verdict.FAIL
    assert (result.findings[0].fault, says in result.findings[0].message) == (Fault.CUSTOM_OP, True)
    if op is misshapen:
        script = result.findings[0].reproducer
        assert exit_status(script) == 1
        assert exit_status(script.replace("misshapen", "square")) == 0


def test_an_op_without_fake_kernel_is_not_asked_for_one():
    result = looked(custom("eager", right, fake=None), "transforms")
    assert (result.verdict, result.findings) == (Verdict.PASS, ())


def test_a_wrong_gradient_of_a_custom_op_is_a_wrong_gradient():
    wrong = custom("wrong", lambda x, g: 3 * x * g)
    assert looked(wrong, "vjp").findings[0].fault is Fault.CONSTANT_FACTOR
