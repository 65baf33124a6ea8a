"""The script is run: on a wrong subject it exits 1, on its correct twin 0."""

import importlib.util
import io
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from gradharness.report.reproduction import Failure, SubjectSource, reproducer, script, source_of

OPS = """
import torch

class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        return x * w + b

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        {guard}
        return g * w, FACTOR * (g * x), g.sum(0)

def half(x, y):
    return {{"a": Scale.apply(x, y[0], y[1]), "b": [x.sum()]}}

def forward(x):
    return x**2

def vjp(x, g):
    return FACTOR * 2 * x * g

class Plain:
    pass

FACTOR = {factor}
"""

F64 = torch.float64
X = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=F64)
W = torch.tensor([0.5, -1.0], dtype=F64)
B = torch.zeros(2, dtype=F64)
TRUE = X.sum(0)


@pytest.fixture
def ops(tmp_path, monkeypatch):
    """Writes the subject's module, right or wrong, and gives its folder."""

    def write(factor=1.0, guard="pass"):
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        (tmp_path / "ops.py").write_text(OPS.format(factor=factor, guard=guard))
        return (f"sys.path.insert(0, {str(tmp_path)!r})",)

    return write


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(source: str, _folder: Path) -> Done:
    """Runs a script in this process, with the subject's module imported afresh."""
    sys.modules.pop("ops", None)
    path, out = list(sys.path), io.StringIO()
    try:
        with redirect_stdout(out):
            exec(compile(source, "repro.py", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return Done(end.code, out.getvalue(), "")
    except Exception as error:
        return Done(1, out.getvalue(), f"{type(error).__name__}: {error}")
    finally:
        sys.path[:] = path
        sys.modules.pop("ops", None)
    raise AssertionError("a script ends by sys.exit")


def statuses(make, ops, folder):
    """Exit status of a script on the wrong and on the right subject."""
    source = make(ops(factor=2.0))
    wrong = run(source, folder)
    ops(factor=1.0)
    right = run(source, folder)
    assert "Error" not in wrong.stderr + right.stderr
    return wrong.returncode, right.returncode


def weight_script(path, *, cotangent=None, expected=TRUE, label="w"):
    return reproducer(
        import_lines=(*path, "from ops import Scale"),
        call="Scale.apply(x, w, b)",
        arguments=(("x", X), ("w", W), ("b", B)),
        active=("x", "w", "b"),
        cotangents=[torch.ones(2, 2, dtype=F64) if cotangent is None else cotangent],
        label=label,
        expected=expected,
        bound=1e-9,
    )


def test_it_exits_1_while_the_gradient_is_wrong_and_0_when_it_is_right(ops, tmp_path):
    assert statuses(weight_script, ops, tmp_path) == (1, 0)


@pytest.mark.parametrize(("factor", "status"), [(2.0, 1), (1.0, 0)])
def test_it_runs_alone(ops, tmp_path, factor, status):
    script_path = tmp_path / "repro.py"
    script_path.write_text(weight_script(ops(factor)))
    done = subprocess.run([sys.executable, "-B", script_path], capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (status, "")


def test_it_prints_expected_got_and_what_is_allowed(ops, tmp_path):
    done = run(weight_script(ops(factor=2.0)), tmp_path)
    assert done.stdout == (
        "expected tensor([4., 6.], dtype=torch.float64) \n"
        "got      tensor([ 8., 12.], dtype=torch.float64) \n"
        "allowed  1e-09\n"
    )


def test_it_is_short_and_needs_nothing_of_ours(ops):
    source = weight_script(ops())
    assert len(source.splitlines()) <= 30
    assert "gradharness" not in source


def test_a_cotangent_keeps_its_layout(ops, tmp_path):
    source = weight_script(ops(), cotangent=torch.tensor(1.0, dtype=F64).expand(2, 2))
    assert "torch.as_strided(torch.tensor([1.0], dtype=torch.float64), (2, 2), (0, 0))" in source
    assert run(source, tmp_path).returncode == 0


def test_without_an_expected_value_the_script_measures_one(ops, tmp_path):
    assert statuses(lambda path: weight_script(path, expected=None), ops, tmp_path) == (1, 0)


def test_the_gradients_of_nested_arguments_and_several_outputs(ops, tmp_path):
    def make(path):
        return reproducer(
            import_lines=(*path, "from ops import half"),
            call="half(x, y)",
            arguments=(("x", X), ("y", (W, B))),
            active=("x", "y[0]", "y[1]"),
            cotangents=[torch.ones(2, 2, dtype=F64), torch.tensor(1.0, dtype=F64)],
            label="y[0]",
            expected=X.sum(0),
            bound=torch.full((2,), 1e-9, dtype=F64),
        )

    assert statuses(make, ops, tmp_path) == (1, 0)


def test_a_backward_that_raises(ops, tmp_path):
    source = weight_script(ops(guard="raise ValueError('no')"), label="backward", expected=None)
    done = run(source, tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "ValueError: no")
    ops()
    assert run(source, tmp_path).returncode == 0


@pytest.mark.parametrize(("expected", "status"), [(X * W, 0), (X * W + 1, 1)])
def test_a_wrong_output(ops, tmp_path, expected, status):
    assert run(weight_script(ops(), label="output", expected=expected), tmp_path).returncode == status


def test_an_output_in_a_container(ops, tmp_path):
    source = reproducer(
        import_lines=(*ops(), "from ops import half"),
        call="half(x, y)",
        arguments=(("x", X), ("y", (W, B))),
        active=("x",),
        cotangents=[],
        label="output['b'][0]",
        expected=torch.tensor(10.0, dtype=F64),
        bound=0.0,
    )
    assert run(source, tmp_path).returncode == 0


def test_a_missing_gradient_counts_as_zero(ops, tmp_path):
    source = reproducer(
        import_lines=(),
        call="x * w.detach()",
        arguments=(("x", X), ("w", W)),
        active=("x", "w"),
        cotangents=[torch.ones(2, 2, dtype=F64)],
        label="w",
        expected=X.sum(0),
        bound=1e-9,
    )
    done = run(source, tmp_path)
    assert (done.returncode, done.stdout) == (2, "FILL IN: the subject could not be imported; see the marked line\n")
    filled = "\n".join(line for line in source.splitlines() if "sys.exit(2)" not in line)
    assert run(filled, tmp_path).returncode == 1


@pytest.mark.parametrize("expected", [2 * X, None])
def test_a_pair_of_functions_gives_its_own_pullback(ops, tmp_path, expected):
    def make(path):
        return script(
            SubjectSource(
                import_lines=(*path, "from ops import forward, vjp"),
                call="forward(layer_x)",
                pullback=("return [vjp(layer_x, *cotangents)]",),
            ),
            Failure(
                arguments=(("layer.x", X),),
                active=("layer.x",),
                cotangents=[torch.ones(2, 2, dtype=F64)],
                label="layer.x",
                expected=expected,
                bound=1e-9,
            ),
        )

    assert statuses(make, ops, tmp_path) == (1, 0)


def imported(tmp_path, name="ops"):
    spec = importlib.util.spec_from_file_location(name, tmp_path / "ops.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def module(ops, tmp_path):
    ops()
    yield imported(tmp_path, "made_up_name")
    del sys.modules["made_up_name"]


def test_the_source_of_an_importable_subject(module, tmp_path):
    at = f"sys.path.insert(0, {str(tmp_path.resolve())!r})"
    assert source_of(module.half, ("x", "y")) == SubjectSource(
        import_lines=(at, "from ops import half"), call="half(x, y)"
    )
    expected = SubjectSource(import_lines=(at, "from ops import Scale"), call="Scale.apply(x, w)")
    assert source_of(module.Scale, ("x", "w")) == expected
    assert source_of(module.Scale.apply, ("x", "w")) == expected


def test_the_source_of_a_decorated_test_is_its_function(module, tmp_path):
    from tests.fakes import gradient_test

    function = module.half
    module.half = gradient_test(vjp="pass")(function)
    assert source_of(function, ("x",)).call == "half.function(x)"


def test_a_module_of_a_package_is_imported_from_the_packages_folder():
    from gradharness.report import show

    root = Path(show.__file__).parents[2]
    assert source_of(show.tensor, ("value",)).import_lines == (
        f"sys.path.insert(0, {str(root)!r})",
        "from gradharness.report.show import tensor",
    )


def local():
    def function(x):
        return x

    return function


@pytest.mark.parametrize("function", [lambda x: x, local(), torch.nn.Linear(1, 1), torch.sin])
def test_what_cannot_be_imported_is_left_to_be_filled_in(function):
    assert source_of(function, ("x",)).import_lines == ()
