"""Every op of the catalogue: its VJP against torch.autograd's gradient of its forward, and the rules of the form."""

import json
from dataclasses import replace

import pytest
import torch

from gradharness.errors import UnknownNameError
from gradharness.model.subject import Tensors
from gradharness.programs.op import Call, Op, Parameters
from gradharness.programs.ops import all_ops, find_op
from tests.programs.drawing import (
    LAYOUTS,
    Case,
    by_autograd,
    by_hand,
    called,
    cases,
    cotangents,
    error,
    laid_out,
    operands,
    own,
    randn,
    within,
)

_BAR = 1e-12
_BAR_SINGLE = 1e-4  # a thousand roundings: what is compared has lost as much to cancellation already
_OPS = all_ops()
_NAMES = [op.name for op in _OPS]

each_op = pytest.mark.parametrize("op", _OPS, ids=_NAMES)
each_kinked_op = pytest.mark.parametrize(
    "op", [op for op in _OPS if op.kinks and op.arity == 1], ids=lambda op: op.name
)
each_in_place_op = pytest.mark.parametrize("op", [op for op in _OPS if op.in_place], ids=lambda op: op.name)
each_plain_op = pytest.mark.parametrize(
    "op", [op for op in _OPS if not op.in_place and not op.domains], ids=lambda op: op.name
)
each_complex_op = pytest.mark.parametrize("op", [op for op in _OPS if op.complex], ids=lambda op: op.name)
each_joining_op = pytest.mark.parametrize("op", [op for op in _OPS if op.arity > 1], ids=lambda op: op.name)


def _worst(case: Case, values: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> float:
    mine, right = by_hand(case, values, weights), by_autograd(case, values, weights)
    assert len(mine) == len(values), case
    for gradient, x in zip(mine, values, strict=True):
        assert gradient is None or (gradient.shape == x.shape and gradient.dtype == x.dtype), case
    return max(error(a, b, weights) for a, b in zip(mine, right, strict=True))


def _layouts(case: Case, number: int) -> tuple[str, str]:
    """Of the operands and of the cotangents, all pairs in turn; no equal elements where they would meet a kink."""
    mine = LAYOUTS[number % 4]
    return "strided" if mine == "expanded" and case.op.kinks else mine, LAYOUTS[(number + number // 4) % 4]


@each_op
def test_the_vjp_is_the_gradient_that_autograd_finds(op: Op) -> None:
    found = cases(op, 40)
    assert found, "no shapes that it takes"
    for number, case in enumerate(found):
        layout, layout_of_cotangents = _layouts(case, number)
        values = operands(case, number, layout)
        weights = cotangents(called(case, values).outputs, number, layout_of_cotangents)
        assert _worst(case, values, weights) <= _BAR, (str(case), layout, layout_of_cotangents)


@each_complex_op
def test_the_vjp_is_the_gradient_that_autograd_finds_for_complex_operands(op: Op) -> None:
    for number, case in enumerate(cases(op, 10, seed=1)):
        values = operands(case, number, _layouts(case, number)[0], dtype=torch.complex128)
        weights = cotangents(called(case, values).outputs, number, LAYOUTS[number // 2 % 4])
        assert _worst(case, values, weights) <= _BAR, str(case)


@each_joining_op
def test_the_vjp_is_right_for_one_tensor_in_all_places(op: Op) -> None:
    domain = next((op.domain(i) for i in range(op.arity) if op.domains and op.domain(i).name != "REAL"), op.domain(0))
    alike = [case for case in cases(op, 40, seed=2) if len(set(case.shapes)) == 1]
    for number, case in enumerate(alike[:5]):
        x = within(randn(case.shapes[0], number), domain)
        values = (x,) * op.arity
        weights = cotangents(called(case, values).outputs, number)
        mine = [g for g in by_hand(case, values, weights) if g is not None]
        leaf = x.clone().requires_grad_()
        inputs = own(op, (leaf,) * op.arity)
        outputs = op.run(inputs, case.parameters)
        right = torch.autograd.grad(
            [y for y in outputs if y.requires_grad], leaf, weights[: len(outputs) - op.discrete]
        )
        assert error(sum(mine), right[0], weights) <= _BAR, str(case)


@each_kinked_op
def test_the_vjp_takes_autograds_side_at_a_kink(op: Op) -> None:
    points = torch.tensor(
        [-3.0, -2.5, -1.0, -0.5, -0.3, 0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 1.0, 3.0, 6.0], dtype=torch.float64
    )
    for choice in range(12):
        parameters = op.parameters([tuple(points.shape)], choice)
        if parameters is None:
            continue
        case = Case(op, (tuple(points.shape),), choice, parameters)
        weights = cotangents(called(case, (points,)).outputs, choice)
        assert _worst(case, (points,), weights) <= _BAR, str(case)


@each_op
def test_the_vjp_writes_into_nothing(op: Op) -> None:
    for number, case in enumerate(cases(op, 4, seed=3)):
        call = called(case, operands(case, number))
        weights = cotangents(call.outputs, number)
        held = [*call.inputs, *call.outputs, *weights]
        before = [(x.clone(), x._version) for x in held]
        op.pull(call, weights)
        for x, (copy, version) in zip(held, before, strict=True):
            assert torch.equal(x, copy), str(case)
            assert x._version == version, str(case)


@each_op
def test_the_vjp_is_linear_in_the_cotangents(op: Op) -> None:
    for number, case in enumerate(cases(op, 4, seed=4)):
        values = operands(case, number)
        first = cotangents(called(case, values).outputs, number)
        second = cotangents(called(case, values).outputs, number + 50, "expanded")
        both = [2.5 * a - 0.75 * b if a.is_floating_point() else a for a, b in zip(first, second, strict=True)]
        parts = zip(by_hand(case, values, first), by_hand(case, values, second), strict=True)
        for together, (a, b) in zip(by_hand(case, values, both), parts, strict=True):
            if together is not None:
                assert a is not None
                assert b is not None
                assert error(together, 2.5 * a - 0.75 * b, first) <= _BAR, str(case)


@each_op
def test_the_vjp_of_a_batch_is_that_of_each_sample(op: Op) -> None:
    """Under vmap, where nothing batched may be written into what is not, and torch takes some arguments as they are."""
    for number, case in enumerate(cases(op, 6, seed=12)):
        calls = [called(case, operands(case, number + k)) for k in (0, 10)]
        weights = [cotangents(call.outputs, number + k) for k, call in enumerate(calls)]

        def pulled(
            inputs: Tensors, outputs: Tensors, weight: Tensors, parameters: Parameters = case.parameters
        ) -> Tensors:
            gradients = op.pull(Call(inputs, outputs, parameters), weight)
            return tuple(torch.zeros_like(x) if g is None else g for g, x in zip(gradients, inputs, strict=True))

        samples = [(call.inputs, call.outputs, weight) for call, weight in zip(calls, weights, strict=True)]
        stacked = [tuple(map(torch.stack, zip(*tensors, strict=True))) for tensors in zip(*samples, strict=True)]
        batches = torch.func.vmap(pulled)(*stacked)
        for batch, *alone in zip(batches, *(pulled(*sample) for sample in samples), strict=True):
            assert error(batch, torch.stack(alone), weights[0]) <= _BAR, str(case)


@each_op
def test_cotangents_of_zero_give_gradients_of_zero(op: Op) -> None:
    case = cases(op, 1)[0]
    values = operands(case, 0)
    weights = [torch.zeros_like(y) for y in called(case, values).outputs]
    assert all(g is None or not g.any() for g in by_hand(case, values, weights))


@each_op
def test_one_cotangent_alone_gives_what_autograd_finds(op: Op) -> None:
    for case in cases(op, 3, seed=5):
        values = operands(case, 1)
        weights = cotangents(called(case, values).outputs, 1)
        for k in range(len(weights) - op.discrete):
            alone = tuple(g if i == k else torch.zeros_like(g) for i, g in enumerate(weights))
            assert _worst(case, values, alone) <= _BAR, (str(case), k)


@each_op
def test_single_precision_stays_single(op: Op) -> None:
    for case in cases(op, 2, seed=6):
        values = operands(case, 2, dtype=torch.float32)
        weights = cotangents(called(case, values).outputs, 2)
        assert _worst(case, values, weights) <= _BAR_SINGLE, str(case)


@each_op
def test_the_source_says_what_forward_does(op: Op) -> None:
    names = ["a", "b", "c", "d"][: op.arity]
    for number, case in enumerate(cases(op, 6, seed=7)):
        values = operands(case, number)
        text = op.source(names, case.parameters)
        made = eval(text, {"torch": torch}, dict(zip(names, own(op, values), strict=True)))
        outputs = tuple(made) if isinstance(made, tuple | list) else (made,)
        for y, expected in zip(outputs, called(case, values).outputs, strict=True):
            assert torch.equal(y, expected), text


@each_op
def test_parameters_survive_json_and_are_pure(op: Op) -> None:
    for number, case in enumerate(cases(op, 6, seed=8)):
        assert op.parameters(case.shapes, case.choice) == case.parameters
        read = json.loads(json.dumps(case.parameters))
        values = operands(case, number)
        call, again = called(case, values), called(case, values, read)
        weights = cotangents(call.outputs, number)
        assert all(torch.equal(a, b) for a, b in zip(call.outputs, again.outputs, strict=True))
        for a, b in zip(op.pull(call, weights), op.pull(again, weights), strict=True):
            assert a is b is None or torch.equal(a, b), str(case)


@each_op
def test_the_number_of_outputs_is_as_it_says(op: Op) -> None:
    for number, case in enumerate(cases(op, 4, seed=9)):
        outputs = called(case, operands(case, number)).outputs
        assert op.outputs in (0, len(outputs)), str(case)
        carriers = outputs[: len(outputs) - op.discrete]
        assert all(y.is_floating_point() for y in carriers), str(case)


@each_op
def test_the_test_itself_sees_a_gradient_that_is_off_by_a_billionth(op: Op) -> None:
    wrong = replace(op, vjp=lambda call, *g: tuple(None if r is None else r * (1 + 1e-9) for r in op.pull(call, g)))
    worst = 0.0
    for number, case in enumerate(cases(op, 6)):
        values = operands(case, number)
        weights = cotangents(called(case, values).outputs, number)
        worst = max(worst, _worst(replace(case, op=wrong), values, weights))
    assert worst > _BAR


@each_in_place_op
def test_an_in_place_op_returns_what_it_wrote_into_and_its_vjp_does_not_read_that_operand(op: Op) -> None:
    for number, case in enumerate(cases(op, 8, seed=10)):
        values = operands(case, number)
        call = called(case, values)
        assert call.y is call.inputs[0], str(case)
        poisoned = replace(call, inputs=(torch.full_like(call.y, torch.nan), *call.inputs[1:]))
        weights = cotangents(call.outputs, number)
        for a, b in zip(op.pull(call, weights), op.pull(poisoned, weights), strict=True):
            assert a is b is None or torch.equal(a, b), str(case)


@each_op
def test_forward_leaves_operands_alone_unless_it_is_in_place(op: Op) -> None:
    for number, case in enumerate(cases(op, 3, seed=11)):
        values = operands(case, number)
        copies = [x.clone() for x in values]
        op.run(own(op, values), case.parameters)
        assert all(torch.equal(x, copy) for x, copy in zip(values, copies, strict=True)), str(case)


@each_plain_op
def test_forward_depends_on_values_alone_where_elements_share_their_memory(op: Op) -> None:
    """As ``unfold`` lays them out: every stride is one."""
    for case in cases(op, 6):
        generator = torch.Generator().manual_seed(5)
        operands = []
        for shape in case.shapes:
            memory = torch.rand(sum(shape) + 1, generator=generator, dtype=torch.float64) + 0.25
            operands.append(memory.as_strided(shape, (1,) * len(shape)))
        got = op.run(operands, case.parameters)
        expected = op.run([x.contiguous() for x in operands], case.parameters)
        for y, z in zip(got, expected, strict=True):
            torch.testing.assert_close(y, z, rtol=1e-12, atol=1e-12, equal_nan=True, msg=str(case))


@each_op
def test_every_shape_is_answered_for_every_choice(op: Op) -> None:
    """A shape of rank 0 to 6 gets parameters or None, never an error; what gets parameters runs."""
    for number, shape in enumerate([(), (1,), (2, 3), (1, 2, 3), (2, 2, 2, 2), (1, 2, 1, 2, 1), (1, 2, 1, 1, 2, 1)]):
        for choice in (0, number, 17, 1_000_003):
            parameters = op.parameters([shape] * op.arity, choice)
            if parameters is not None:
                case = Case(op, (shape,) * op.arity, choice, parameters)
                values = operands(case, number)
                assert _worst(case, values, cotangents(called(case, values).outputs, number)) <= _BAR, str(case)


# ------------------------------------------------------------------------------------------------------- the catalogue


def test_names_are_unique_and_found() -> None:
    assert len(set(_NAMES)) == len(_NAMES) >= 60
    assert all(find_op(op.name) is op for op in _OPS)
    with pytest.raises(UnknownNameError, match="sine"):
        find_op("sine")


def test_every_op_names_where_its_derivative_is_from() -> None:
    assert all(op.formula for op in _OPS)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("transpose", [()]),
        ("select", [(0,)]),
        ("amax", [(0,)]),
        ("mean", [(0,)]),
        ("glu", [(3,)]),
        ("tril", [(3,)]),
        ("diagonal", [(3,)]),
        ("repeat_interleave", [(64, 64)]),
        ("pad", [()]),
        ("add_", [(3,), (2, 3)]),
        ("mul_", [(1, 3), (2, 3)]),
        ("copy_slice_", [(), ()]),
    ],
)
def test_shapes_that_an_op_does_not_take_are_declined(name: str, shapes: list[tuple[int, ...]]) -> None:
    assert all(find_op(name).parameters(shapes, choice) is None for choice in range(40))


@pytest.mark.parametrize(
    ("name", "shape", "values"),
    [
        ("sum", (2, 3, 4), {"dim": {None, 0, 2, -1, -3, (0, 1), (0, 1, 2), (-2, 0)}, "keepdim": {False, True}}),
        ("var", (2, 3), {"dim": {None, 1, -2, (0, 1)}, "correction": {0, 1, 0.5}, "keepdim": {False, True}}),
        ("permute", (2, 3, 4), {"dims": {(0, 1, 2), (2, 0, 1), (-1, -3, -2)}}),
        ("slice", (5, 3), {"dim": {0, 1, -1, -2}, "start": {0, 1, -1, -3}, "step": {1, 2}}),
        ("select", (5, 3), {"dim": {0, 1, -1, -2}, "index": {0, -1, 2}}),
        ("unfold", (5, 4), {"dimension": {0, 1, -1, -2}, "size": {1, 2, 3}, "step": {1, 2, 3}}),
        ("roll", (3, 4), {"shifts": {1, -1, 3, (1, 2)}, "dims": {0, -1, (0, 1), ()}}),
        ("expand", (1, 3), {"sizes": {(2, 3), (2, 1, 3), (3, -1, -1), (-1, -1)}}),
        ("pad", (3, 3), {"pad": {(1, 0), (-1, 0), (1, 0, 0, 1)}, "value": {0.0, -1.5}}),
        ("pow_whole", (3,), {"exponent": {0, 1, 2, 3, 4}}),
        ("clamp", (3,), {"min": {None, -1.0}, "max": {None, 1.0}}),
        ("vector_norm", (3,), {"ord": {1, 2, 3, 1.5}}),
    ],
)
def test_the_choices_reach_every_branch(name: str, shape: tuple[int, ...], values: dict[str, set[object]]) -> None:
    reached = [find_op(name).parameters([shape], choice) or {} for choice in range(300)]
    for parameter, expected in values.items():
        assert expected <= {parameters[parameter] for parameters in reached}, parameter


# ------------------------------------------------------------------------------------------------- what is drawn seldom


@pytest.mark.parametrize("zeros", [1, 2, 3])
@pytest.mark.parametrize(("name", "parameters"), [("prod", {"dim": -1, "keepdim": False}), ("prod_all", {})])
def test_a_product_with_zeros_has_the_right_gradient(name: str, parameters: dict[str, object], zeros: int) -> None:
    x = randn((2, 3), 0)
    x[0, :zeros] = 0
    case = Case(find_op(name), ((2, 3),), 0, parameters)
    assert _worst(case, (x,), cotangents(called(case, (x,)).outputs, 0)) <= _BAR


@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
def test_a_whole_power_of_zero_has_the_right_gradient(exponent: int) -> None:
    case = Case(find_op("pow_whole"), ((2,),), 0, {"exponent": exponent})
    x = torch.tensor([0.0, 2.0], dtype=torch.float64)
    assert _worst(case, (x,), (randn((2,), 0),)) == 0


@pytest.mark.parametrize("name", ["maximum", "minimum", "fmax", "fmin"])
def test_a_tie_of_two_operands_goes_where_autograd_sends_it(name: str) -> None:
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    y = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)
    case = Case(find_op(name), ((3,), (3,)), 0, {})
    assert _worst(case, (x, y), (randn((3,), 0),)) == 0


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_a_tie_within_a_reduction_is_shared(name: str) -> None:
    x = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 2.0]], dtype=torch.float64)
    case = Case(find_op(name), ((3, 3),), 0, {"dim": (-1,), "keepdim": True})
    assert _worst(case, (x,), (randn((3, 1), 0),)) <= _BAR


def test_equals_are_sorted_as_autograd_sorts_them() -> None:
    x = torch.zeros(40, 2, dtype=torch.float64)  # torch sorts few elements in a stable way, and many in another
    case = Case(find_op("msort"), ((40, 2),), 0, {})
    assert _worst(case, (x,), (randn((40, 2), 0),)) == 0


def test_attention_to_large_scores_loses_no_more_in_bfloat16_than_torch_does() -> None:
    case = Case(find_op("attention"), ((8, 16),) * 3, 0, {"is_causal": False})
    values = [(20 + randn((8, 16), i)).to(torch.bfloat16) for i in range(3)]
    weights = (randn((8, 16), 3).to(torch.bfloat16),)
    right = by_autograd(case, [x.double() for x in values], (weights[0].double(),))
    for mine, torchs, truth in zip(
        by_hand(case, values, weights), by_autograd(case, values, weights), right, strict=True
    ):
        assert mine is not None
        assert mine.dtype is torch.bfloat16
        assert error(mine.double(), truth, weights) <= 2 * error(torchs.double(), truth, weights)


def test_crossed_limits_of_a_clamp_send_all_to_the_upper_one() -> None:
    x, low, high = (torch.tensor([v], dtype=torch.float64) for v in (0.0, 1.0, -1.0))
    case = Case(find_op("clamp_between"), ((1,),) * 3, 0, {})
    gradients = by_hand(case, (x, low, high), (torch.ones(1, dtype=torch.float64),))
    assert [float(g) for g in gradients if g is not None] == [0, 0, 1]
    assert _worst(case, (x, low, high), (laid_out((1,), 0, "contiguous"),)) == 0


def test_a_condition_takes_no_gradient() -> None:
    case = cases(find_op("where_positive"), 1)[0]
    values = operands(case, 0)
    assert by_hand(case, values, cotangents(called(case, values).outputs, 0))[0] is None
