"""What the source says is found without an import, whatever name a base goes by."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gradharness.audit.classes import ABSTRACT, NO_BACKWARD
from gradharness.audit.files import find_sources
from gradharness.audit.listing import list_definitions
from gradharness.audit.ops import NO_BACKWARD as NOT_REGISTERED
from gradharness.errors import LoadError
from gradharness.model.reach import BackwardKind
from tests.audit.packaging import FILES, write_package


def listed(folder, text=None, **exempt):
    listing = list_definitions("pack", find_sources(str(folder)), **exempt)
    if text is None:
        return listing
    return {d.name: d for d in listing.definitions}


def one_file(folder, text):
    path = folder / "one.py"
    path.write_text(textwrap.dedent(text))
    return list_definitions("one.py", find_sources(str(path)))


def names(listing):
    return [d.qualname for d in listing.definitions if not d.left_out]


@pytest.fixture
def package(folder):
    return write_package(folder, **FILES)


def test_every_shape_is_listed_with_its_place(package):
    found = {(d.module, d.qualname, d.line): d for d in listed(package).definitions}
    counted = [(m, q) for (m, q, _), d in found.items() if not d.left_out]
    assert sorted(counted) == sorted(
        [("pack.bases", "Doubled")]
        + [("pack.classes", n) for n in ("Layer", "Net", "Inner")]
        + [("pack.custom", f"gradharness_audit::{n}") for n in ("cubed", "negated", "halved")]
        + [("pack.custom", "Halved")]
        + [("pack.ops", n) for n in ("Renamed", "Once", "Vjp", "Outer.Inner", "Either", "Either")]
        + [("pack.ops", n) for n in ("make.<locals>.Scaled", "Deep", "Hidden", "Unused")]
    )
    for (_, qualname, line), definition in found.items():
        text = definition.path.read_text().splitlines()[line - 1]
        assert qualname.rpartition(".")[2].rpartition("::")[2] in text or "NAMESPACE" in text
    assert {d.qualname for d in found.values() if d.local} == {"make.<locals>.Scaled"}
    assert not {"Value", "Optional", "Outer"} & {d.qualname for d in found.values()}


def test_what_asks_for_no_test_is_told_with_the_reason(package):
    reasons = {d.qualname: d.left_out for d in listed(package).definitions if d.left_out}
    assert reasons == {
        "Abstract": ABSTRACT,
        "ForwardOnly": NO_BACKWARD,
        "NotYet": NO_BACKWARD,
        "gradharness_audit::counted": NOT_REGISTERED,
    }


def test_kinds_are_told_apart(package):
    kinds = {d.qualname: d.kind for d in listed(package).definitions}
    assert kinds["Renamed"] is BackwardKind.FUNCTION
    assert kinds["Net"] is BackwardKind.CLASS
    assert kinds["gradharness_audit::cubed"] is BackwardKind.OP


def test_a_listing_imports_neither_the_package_nor_torch(folder):
    write_package(folder, ops=FILES["ops"], bases=FILES["bases"], broken="raise SystemExit(3)\n" + FILES["classes"])
    code = (
        "import sys\nfrom gradharness.audit.files import find_sources\n"
        "from gradharness.audit.listing import list_definitions\n"
        "found = list_definitions('pack', find_sources('pack'))\n"
        "print(len(found.definitions), *(n for n in ('torch', 'pack', 'hypothesis') if n in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, env=_path()
    )
    assert done.stdout.split() == ["17"]


def _path():
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


BOTH = """
    @staticmethod
    def forward(ctx, x): return x
    @staticmethod
    def backward(ctx, g): return g
"""
ALIASES = {
    "import": "import torch\nclass A(torch.autograd.Function):",
    "module alias": "import torch.autograd as ag\nclass A(ag.Function):",
    "from": "from torch import autograd\nclass A(autograd.Function):",
    "function module": "from torch.autograd.function import Function\nclass A(Function):",
    "star": "from torch.autograd import *\nclass A(Function):",
    "assigned": "import torch\nBase = torch.autograd.Function\nclass A(Base):",
    "in try": "try:\n    from torch.autograd import Function\nexcept ImportError:\n    Function = object\n"
    "class A(Function):",
    "several bases": "import torch\nclass M: pass\nclass A(M, torch.autograd.Function):",
    "in place": "from torch.autograd.function import InplaceFunction\nclass A(InplaceFunction):",
    "computed": "def base(): ...\nclass A(base()):",
}


@pytest.mark.parametrize("head", ALIASES.values(), ids=ALIASES)
def test_a_base_is_known_by_any_name(folder, head):
    listing = one_file(folder, head + BOTH)
    assert [(d.qualname, d.kind) for d in listing.definitions] == [("A", BackwardKind.FUNCTION)]


OTHERS = {
    "another Function": "class Function: pass\nclass A(Function): pass",
    "a shadowed name": "from torch.autograd import Function\ndef f(Function=int):\n    class Function: pass\n"
    "    class A(Function): pass",
    "a protocol": "from typing import Protocol\nclass A(Protocol):\n    def forward(self): return 1\n"
    "    def backward(self): return 1",
    "abstract methods": "from abc import abstractmethod\nclass A:\n    @abstractmethod\n    def forward(self, x): ok\n"
    "    def backward(self, g): return g",
    "no forward": "class A:\n    def backward(self, g): return g",
    "itself": "class A(A): pass\nB = B\nclass C(B): pass",
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_what_is_no_backward_is_not_listed(folder, text):
    assert one_file(folder, text).definitions == ()


def test_modules_that_import_all_names_of_each_other_are_no_endless_loop(folder):
    root = write_package(
        folder,
        a="from .b import *\nfrom .c import Base",
        b="from .a import *\nclass A(Base):" + BOTH,
        c="import torch\nBase = torch.autograd.Function",
    )
    assert names(listed(root)) == ["A"]


def test_a_base_in_another_package_is_read_there(folder):
    write_package(folder, "other", core="import torch\nclass Base(torch.autograd.Function):" + BOTH)
    root = write_package(folder, ops="from other.core import Base\nclass A(Base): pass")
    assert [(d.name, d.bases) for d in listed(root).definitions] == [("pack.ops.A", ("other.core.Base",))]


def test_a_backward_of_a_framework_is_nobodys_to_test(folder):
    write_package(folder, "other", core="class Base:\n    def backward(self, g): return g\n")
    text = "from other.core import Base\nclass A(Base):\n    def forward(self, x): return x\n"
    root = write_package(folder, ops=text + "class B(A):\n    def backward(self, g): return g\n")
    assert names(listed(root)) == ["B"]


OPS = {
    "triton_op": '@torch.library.triton_op("n::a", mutates_args={})\ndef f(x): ...\nf.register_autograd(g)',
    "call": 'f = torch.library.custom_op("n::a", mutates_args=())(h)\nf.register_autograd(g)',
    "define": 'torch.library.define("n::a", "(Tensor x) -> Tensor")\ntorch.library.register_autograd("n::a", g)',
    "decorated": '@torch.library.impl("n::a", "Autograd")\ndef f(x): ...',
    "library": 'L = torch.library.Library("n", "DEF")\nL.define("a(Tensor x) -> Tensor")\n'
    '@torch.library.impl(L, "a", "AutogradCPU")\ndef f(x): ...',
    "overload": "torch.library.register_autograd(torch.ops.n.a.default, g)",
    "elsewhere": 'torch.library.register_autograd("n::a", g)',
    "put together": 'N = "n"\ntorch.library.register_autograd(N + "::" + "a", g)',
    "with": 'with torch.library._scoped_library("n", "DEF") as L:\n    L.define("a() -> ()")\n'
    '    L.impl("a", f, "Autograd")',
}


@pytest.mark.parametrize("text", OPS.values(), ids=OPS)
def test_an_op_with_a_backward_is_listed(folder, text):
    listing = one_file(folder, "import torch\n" + text)
    assert [(d.name, d.kind, d.left_out) for d in listing.definitions] == [("n::a", BackwardKind.OP, "")]


def test_a_kernel_of_a_library_is_no_backward(folder):
    text = 'L = torch.library.Library("n", "DEF")\nL.define("a(Tensor x) -> Tensor")\nL.impl("a", f, "CPU")'
    (one,) = one_file(folder, "import torch\n" + text).definitions
    assert one.left_out == NOT_REGISTERED


def test_a_file_that_is_not_python_does_not_hide_the_others(folder):
    root = write_package(folder, good="import torch\nclass A(torch.autograd.Function):" + BOTH, bad="class (:\n")
    (root / "binary.py").write_bytes(b"\x00\xff")
    listing = listed(root)
    assert names(listing) == ["A"]
    assert {u.path.name: u.reason.partition(":")[0] for u in listing.unread}.keys() == {"bad.py", "binary.py"}
    assert next(u.reason for u in listing.unread if u.path.name == "bad.py") == "line 1: SyntaxError: invalid syntax"


# --- exemptions -----------------------------------------------------------------------------------------------------

HEAD = "import torch\n"
TABLE = "pyproject.toml, [tool.gradharness.audit]"


@pytest.mark.parametrize(
    "line",
    [
        "class A(torch.autograd.Function):  # gradharness: no-test a cast has no gradient of its own",
        "class A(torch.autograd.Function):  # noqa # gradharness: no-test: a cast has no gradient of its own",
        "@final  # gradharness: no-test a cast has no gradient of its own\nclass A(torch.autograd.Function):",
        "class A(\n    torch.autograd.Function,  # gradharness: no-test a cast has no gradient of its own\n):",
    ],
)
def test_an_exemption_is_read(folder, line):
    listing = one_file(folder, HEAD + line + BOTH)
    assert listing.mistakes == ()
    (one,) = listing.definitions
    assert one.exemption.reason == "a cast has no gradient of its own"
    assert one.exemption.place.startswith("one.py, line ")


MISTAKES = {
    "no reason": ("class A(torch.autograd.Function):  # gradharness: no-test", "an exemption without a reason"),
    "only signs": ("class A(torch.autograd.Function):  # gradharness: no-test: --", "an exemption without a reason"),
    "misspelt": (
        "class A(torch.autograd.Function):  # gradharness: no_test a cast",
        "'no_test' in an exemption: write",
    ),
    "elsewhere": ("# gradharness: no-test a cast\nclass A(torch.autograd.Function):", "an exemption of nothing"),
}


@pytest.mark.parametrize(("line", "told"), MISTAKES.values(), ids=MISTAKES)
def test_an_exemption_that_exempts_nothing_is_a_mistake(folder, line, told):
    listing = one_file(folder, HEAD + line + BOTH)
    (mistake,) = listing.mistakes
    assert mistake.startswith("one.py, line 2: " + told)
    assert listing.definitions[0].exemption is None


def test_an_exemption_in_a_string_is_none(folder):
    text = HEAD + 'TEXT = "# gradharness: no-test"\nclass A(torch.autograd.Function):' + BOTH
    assert one_file(folder, text).mistakes == ()


def test_an_exemption_of_the_configuration_is_read(package):
    exempt = {"pack.ops.Unused": "not released", "gradharness_audit::cubed": "is to go"}
    listing = listed(package, exempt=exempt, config="pyproject.toml")
    assert listing.mistakes == ()
    assert {d.name: d.exemption.reason for d in listing.definitions if d.exemption} == exempt


def test_an_exemption_of_the_configuration_names_what_there_is_and_why(package):
    exempt = {"pack.ops.Unusde": "not released", "pack.ops.Once": " "}
    listing = listed(package, exempt=exempt, config="pyproject.toml")
    assert listing.mistakes == (
        f"{TABLE}: unknown exemption 'pack.ops.Unusde': did you mean 'pack.ops.Unused'?",
        f"{TABLE}: the exemption of 'pack.ops.Once' has no reason: write why it needs no test",
    )
    assert not any(d.exemption for d in listing.definitions)


# --- where it is looked for -----------------------------------------------------------------------------------------


def test_a_package_is_found_by_name_folder_and_file(package, monkeypatch):
    by_name, by_folder = find_sources("pack"), find_sources(str(package))
    assert by_name == by_folder
    assert [f.module for f in by_name.files] == ["pack", "pack.bases", "pack.classes", "pack.custom", "pack.ops"]
    assert find_sources("pack/ops.py").files == find_sources("pack.ops").files
    assert find_sources("pack.ops").root == package.parent
    assert "pack" not in sys.modules


def test_an_installed_package_is_found_without_its_import(folder):
    done = find_sources("lib2to3.pgen2") if sys.version_info < (3, 13) else find_sources("xml.dom")
    assert done.files[0].module in ("lib2to3.pgen2", "xml.dom")


WRONG = {
    "pakc": "there is no package, folder or file 'pakc': did you mean 'pack'?",
    "pack.opps": "there is no package, folder or file 'pack.opps'",
    "zzzzqq": "there is no package, folder or file 'zzzzqq': give an importable package, a folder or a .py file",
    "pack/opps.py": "pack/opps.py: no such file or folder: did you mean 'pack/ops.py'?",
    "note.txt": "note.txt is not a Python file: give a package, a folder or a .py file",
    "empty": "empty has no Python file in it: give a package, a folder or a .py file",
    "_struct": "_struct is ",
}


@pytest.mark.parametrize(("text", "told"), WRONG.items())
def test_what_is_not_there_is_told(package, folder, text, told):
    (folder / "note.txt").write_text("")
    (folder / "empty").mkdir()
    try:
        import _struct
    except ImportError:
        pytest.skip("no extension module to ask for")
    if text == "_struct" and not getattr(_struct, "__file__", None):
        told = "there is no package, folder or file '_struct'"
    with pytest.raises(LoadError) as error:
        find_sources(text)
    assert str(error.value).startswith(told)
