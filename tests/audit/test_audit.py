"""``gradharness audit``: what is covered is what a gradient test has really reached."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from torch.autograd.function import BackwardCFunction

from gradharness.cli import main
from gradharness.engine.runner import device_reason
from tests.audit.packaging import FILES, TESTS, write_package

FUNCTION = """class {name}(torch.autograd.Function):{comment}
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g
"""
SETUP = """    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

"""
TEST = """
from gradharness import gradient_test
from pack import ops
test_a = gradient_test(ops.A, x="n", checks=("vjp",))
"""


def audit(*arguments):
    return CliRunner().invoke(main, ["audit", *map(str, arguments)], catch_exceptions=False)


def record(*arguments):
    done = audit(*arguments, "--json", "audit.json")
    return done, json.loads(Path("audit.json").read_text())


def line_of(text, path):
    return 1 + [line.startswith(text) for line in Path(path).read_text().splitlines()].index(True)


def covers(found):
    return {d["name"]: [(c["test"].rpartition("::")[2], c["direct"]) for c in d["covered_by"]] for d in found}


def functions(**comments):
    return "import torch\n" + "".join(FUNCTION.format(name=n, comment=c) for n, c in comments.items())


@pytest.fixture
def package(folder):
    """``package(ops=...)`` writes the package, and one test of its ``ops.A``."""

    def package(*, tests=TEST, **files):
        write_package(folder, **files)
        (folder / "tests").mkdir(exist_ok=True)
        if tests:
            (folder / "tests" / "test_gradients.py").write_text(tests)

    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "pack"]:
        del sys.modules[name]


@pytest.fixture
def whole(package):
    package(tests=TESTS, **FILES)
    yield
    # Ops live as long as the process: the next test is to define them again.
    for module in [m for name, m in sys.modules.items() if name == "pack.custom"]:
        module.library._destroy()
        module.cubed._lib._destroy()
        module.counted._lib._destroy()


def test_every_shape_is_matched_with_what_reaches_it(whole):
    done, data = record("pack")
    assert done.exit_code == 0, done.output
    found = covers(d for d in data["definitions"] if d["standing"] == "covered")
    either = next(d for d in data["definitions"] if d["name"] == "pack.ops.Either")
    assert found == {
        "pack.ops.Renamed": [("test_renamed", True)],
        "pack.ops.Once": [("test_once", True)],
        "pack.ops.Vjp": [("test_vjp", True)],
        "pack.ops.Outer.Inner": [("test_together", False)],
        "pack.ops.Either": [("test_together", False)],
        "pack.ops.make.<locals>.Scaled": [("test_local", True)],
        "pack.ops.Deep": [("test_deep", True)],
        "pack.ops.Hidden": [("test_deep", False)],
        "pack.classes.Net": [("test_net", True)],
        "pack.classes.Inner": [("test_net", False)],
        "gradharness_audit::cubed": [("test_cubed", True)],
        "gradharness_audit::negated": [("test_negated", True)],
        "gradharness_audit::halved": [("test_halved", True)],
        "pack.custom.Halved": [("test_halved", True)],
    }
    uncovered = [(d["name"], d["line"], d["note"]) for d in data["definitions"] if d["standing"] == "no test"]
    assert uncovered == [
        ("pack.bases.Doubled", 11, "only its subclass Renamed is tested"),
        ("pack.classes.Layer", 4, "only its subclass Inner is tested"),
        # Of two definitions under one name, the first is the one that runs here.
        ("pack.ops.Either", either["line"] + 5, ""),
        ("pack.ops.Unused", line_of("class Unused", "pack/ops.py"), ""),
    ]
    assert (data["covered"], data["uncovered"], data["not_counted"]) == (14, 4, 4)
    text = " ".join(done.stdout.split())
    assert "77.7 %: 13 gradient tests reached 14 of 18 hand-written backwards in 5 files; 4 not counted" in text


def test_a_test_that_raises_covers_nothing_and_is_told(whole):
    done, data = record("pack")
    failed = {t["address"].rpartition("::")[2]: t["failed"] for t in data["tests"] if t["failed"]}
    assert failed == {
        "test_raises": "forward raised RuntimeError: no such kernel",
        "test_raises_late": "backward raised ZeroDivisionError: division by zero",
        "test_elsewhere": device_reason("cuda:99"),
    }
    text = " ".join(done.stdout.split())
    assert "test_raises covers nothing: forward raised RuntimeError: no such kernel" in text


def test_nothing_is_left_replaced(package):
    package(ops=functions(A=""))
    before, profile = BackwardCFunction.apply, sys.getprofile()
    assert audit("pack").exit_code == 0
    assert BackwardCFunction.apply is before
    assert sys.getprofile() is profile


@pytest.mark.parametrize(
    ("limit", "status", "told"), [(50, 0, ""), (50.1, 1, "; --fail-under asks for 50.1 %"), (0, 0, "")]
)
def test_the_limit_decides(package, limit, status, told):
    package(ops=functions(A="", B=""))
    done = audit("pack", "--fail-under", limit)
    assert done.exit_code == status
    line = " ".join(done.stdout.split()).partition("50.0 %")[2]
    assert line == f": 1 gradient test reached 1 of 2 hand-written backwards in 2 files{told}"


def test_the_table_tells_name_kind_place_and_test(package):
    package(ops=functions(A="", B=""))
    rows = [line.split() for line in audit("pack").stdout.splitlines()]
    assert rows[0] == ["name", "kind", "place", "covered", "by"]
    assert rows[1][:3] == ["A", "Function", "pack/ops.py:2"]
    assert "".join(rows[1][3:] + rows[2]).startswith("tests/test_gradients.py::test_a")
    assert next(row for row in rows if row[:1] == ["B"]) == ["B", "Function", "pack/ops.py:10", "no", "test"]


def test_an_exemption_counts_neither_way(package):
    package(ops=functions(A="", B="  # gradharness: no-test has no gradient"))
    done, data = record("pack", "--fail-under", 100)
    assert done.exit_code == 0, done.output
    assert "exempt: has no gradient" in " ".join(done.stdout.split())
    assert (data["percentage"], data["exempt"]) == (100, 1)


def test_an_exemption_of_what_is_covered_is_told_as_unneeded(package):
    package(ops=functions(A="  # gradharness: no-test too hard"))
    done, data = record("pack")
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    assert (
        "pack/ops.py, line 2: the exemption of A is not needed, since tests/test_gradients.py::test_a covers it" in text
    )
    assert (data["covered"], data["exempt"]) == (1, 0)
    assert data["definitions"][0]["exemption_unneeded"]


def test_an_exemption_without_a_reason_is_an_error(package):
    package(ops=functions(A="", B="  # gradharness: no-test"))
    done = audit("pack")
    assert done.exit_code == 2
    assert "pack/ops.py, line 10: an exemption without a reason: write '# gradharness: no-test REASON'" in done.stderr
    assert "50.0 %" in done.stdout


def test_the_configuration_gives_exemptions_limit_and_tests(package):
    package(ops=functions(A="", B="", C=""), tests="")
    Path("gradients.py").write_text(TEST)
    settings = 'tests = ["gradients.py"]\nfail-under = 60\n[tool.gradharness.audit]\nexempt = {{ "pack.ops.B" = "{}" }}'
    Path("pyproject.toml").write_text("[tool.gradharness]\n" + settings.format("later"))
    done = audit("pack")
    assert done.exit_code == 1
    assert "50.0 %: 1 gradient test reached 1 of 2 hand-written backwards in 2 files; 1 exempt" in " ".join(
        done.stdout.split()
    )
    assert audit("pack", "--fail-under", 50).exit_code == 0
    Path("pyproject.toml").write_text("[tool.gradharness]\n" + settings.format(""))
    done = audit("pack", "--fail-under", 0)
    assert done.exit_code == 2
    assert "the exemption of 'pack.ops.B' has no reason" in done.stderr


def test_a_file_that_does_not_import_is_listed_with_its_reason(package):
    package(
        ops=functions(A=""),
        leaves=functions(B="") + "raise SystemExit(3)\n",
        breaks="import no_such_backend\n" + functions(C=""),
        quiet="open('imported', 'w')",
    )
    done, data = record("pack")
    assert done.exit_code == 0, done.output
    notes = {d["name"]: d["note"] for d in data["definitions"]}
    assert notes["pack.leaves.B"].startswith("cannot import module 'pack.leaves': exits with status 3")
    assert "No module named 'no_such_backend'" in notes["pack.breaks.C"]
    assert data["covered"] == 1
    assert not Path("imported").exists()


def test_a_file_that_is_not_python_makes_the_answer_incomplete(package):
    package(ops=functions(A=""), bad="class (:\n")
    done, data = record("pack")
    assert done.exit_code == 2
    assert "bad.py: line 1: SyntaxError: invalid syntax" in done.stderr
    assert data["unread"] == {"pack/bad.py": "line 1: SyntaxError: invalid syntax"}
    assert data["percentage"] == 100


def test_a_test_file_that_does_not_import_is_an_error(package):
    package(ops=functions(A=""), tests="from gradharness import gradient_test\nimport no_such_backend\n")
    done = audit("pack")
    assert done.exit_code == 2
    assert "No module named 'no_such_backend'" in done.stderr
    assert audit("pack", "--fail-under", 1).exit_code == 1


def test_without_any_gradient_test_nothing_is_covered(package):
    package(ops=functions(A=""), tests="")
    done = audit("pack")
    assert done.exit_code == 0
    assert "0.0 %: 0 gradient tests reached 0 of 1 hand-written backward in 2 files" in done.stdout
    assert audit("pack", "--fail-under", 1).exit_code == 1
    done = audit("pack", "--tests", "tests")
    assert done.exit_code == 2
    assert "tests has no Python file that mentions gradient_test" in done.stderr


def test_a_package_without_backwards_is_wholly_covered(package):
    package(plain="import torch\nclass Module(torch.nn.Module):\n    def forward(self, x): return x\n", tests="")
    done = audit("pack", "--fail-under", 100)
    assert done.exit_code == 0
    assert (
        " ".join(done.stdout.split())
        == "100.0 %: pack has no hand-written backward in 2 files: nothing asks for a gradient test"
    )


def test_what_is_not_there_is_an_error(package):
    package(ops=functions(A=""))
    done = audit("pakc")
    assert done.exit_code == 2
    assert done.stderr == "gradharness: there is no package, folder or file 'pakc': did you mean 'pack'?\n"


def test_a_record_that_cannot_be_written_is_told_before_anything_runs(package):
    package(ops=functions(A=""))
    done = audit("pack", "--json", "none/audit.json")
    assert done.exit_code == 2
    assert "the folder does not exist" in done.stderr
    assert "pack" not in sys.modules


def test_a_function_that_no_class_statement_shows_is_found_while_it_runs(package):
    text = functions(Base="  # gradharness: no-test of no use by itself") + (
        "A = type('A', (Base,), {'__module__': __name__})\nB = type('B', (Base,), {'__module__': __name__})\n"
    )
    package(ops=text)
    _, data = record("pack")
    found = {d["name"]: (d["standing"], d["note"]) for d in data["definitions"]}
    assert found["pack.ops.A"] == ("covered", "made while it runs")
    assert found["pack.ops.B"] == ("no test", "made while it runs")


def test_a_test_of_a_subclass_is_no_test_of_its_base(package):
    text = functions(Base="") + (
        "class A(Base):\n    @staticmethod\n    def backward(ctx, g):\n        return Base.backward(ctx, g)\n"
    )
    package(ops=text)
    done, data = record("pack")
    assert covers(data["definitions"]) == {"pack.ops.Base": [], "pack.ops.A": [("test_a", True)]}
    assert "only its subclass A is tested" in " ".join(done.stdout.split())


def test_a_forward_whose_backward_never_runs_is_not_covered(package):
    tests = TEST.replace("ops.A, x", "lambda x: ops.A.apply(x).detach() + x, x")
    package(ops=functions(A=""), tests=tests)
    _, data = record("pack")
    assert (data["covered"], data["uncovered"]) == (0, 1)


def test_a_backward_under_torch_func_is_reached(package):
    text = (
        functions(A="")
        .replace("def forward(ctx, x):", "def forward(x):")
        .replace("    @staticmethod\n    def backward", f"{SETUP}    @staticmethod\n    def backward")
    )
    call = "lambda x: torch.func.vjp(ops.A.apply, x)[1](torch.ones_like(x))[0] * x"
    package(ops=text, tests="import torch\n" + TEST.replace("ops.A, x", f"{call}, x"))
    _, data = record("pack")
    assert data["covered"] == 1


def test_a_class_that_only_takes_one_row_of_one_column_is_reached(package):
    text = (
        "class A:\n    def forward(self, x):\n        if x.shape != (1, 1):\n            raise ValueError('one')\n"
        "        return 2 * x\n    def backward(self, g):\n        self.dx = 2 * g\n"
    )
    tests = TEST.replace(
        'gradient_test(ops.A, x="n"', "gradient_test(manual(ops.A, gradients=lambda a: {'x': a.dx}), x=\"n d\""
    )
    package(ops=text, tests=tests.replace("import gradient_test", "import gradient_test, manual"))
    _, data = record("pack")
    assert covers(data["definitions"]) == {"pack.ops.A": [("test_a", True)]}


def test_a_backward_in_a_wrapper_is_reached(package):
    text = """
def wrapped(function):
    def wrapper(*args):
        return function(*args)
    return wrapper

class A:
    def forward(self, x):
        return 2 * x

    @wrapped
    def backward(self, g):
        self.dx = 2 * g
"""
    tests = TEST.replace("ops.A, x", "manual(ops.A, gradients=lambda a: {'x': a.dx}), x")
    package(ops=text, tests=tests.replace("import gradient_test", "import gradient_test, manual"))
    _, data = record("pack")
    assert covers(data["definitions"]) == {"pack.ops.A": [("test_a", True)]}


def test_a_training_loop_reaches_what_it_calls(package):
    loop = """
import torch
from gradharness import gradient_test, tensor, training
from pack import ops

def loop(model, batches):
    for x, y in batches:
        loss = torch.nn.functional.mse_loss(ops.A.apply(model(x)) / 2, y)
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad

subject = training(
    loop, model=lambda: torch.nn.Linear(1, 1), loss=torch.nn.functional.mse_loss,
    optimizer=lambda params: torch.optim.SGD(params, lr=0.1), steps=1,
)
batch = {name: tensor("n 1", grad=False) for name in ("input", "target")}
test_loop = gradient_test(subject, inputs={**batch, "weight": tensor("1 1"), "bias": tensor("1")})
"""
    package(ops=functions(A=""), tests=loop)
    _, data = record("pack")
    assert covers(data["definitions"]) == {"pack.ops.A": [("test_loop", True)]}, data["tests"]


def test_the_examples_are_all_covered(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    done = audit("examples", "--tests", "examples", "--fail-under", 100)
    assert done.exit_code == 0, done.output
