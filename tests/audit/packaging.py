"""A small package with every shape of definition, and gradient tests for some of them."""

import textwrap

BASES = '''
"""Bases, and what else other modules import."""
import torch
from torch.autograd import Function as F

class Abstract(F):
    @staticmethod
    def backward(ctx, g):
        return 2 * g

class Doubled(Abstract):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

class ForwardOnly(F):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

class NotYet(ForwardOnly):
    @staticmethod
    def backward(ctx, g):
        raise NotImplementedError("later")

Alias = Doubled
'''
OPS = '''
import torch
import pack.bases as b
from torch.autograd.function import once_differentiable
from .bases import Alias, Abstract

class Renamed(Alias):
    """Both methods are inherited, from another module."""

class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 3 * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 3 * g

class Vjp(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return -x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def vjp(ctx, g):
        return -g

class Outer:
    class Inner(b.Doubled):
        pass

if torch.float64.is_floating_point:
    class Either(b.Doubled):
        @staticmethod
        def backward(ctx, g):
            return 2 * g
else:
    class Either(b.Doubled):
        @staticmethod
        def backward(ctx, g):
            return 2.0 * g

def make(factor):
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return factor * x

        @staticmethod
        def backward(ctx, g):
            return factor * g
    return Scaled

class Deep(torch.autograd.Function):
    """Its backward calls another Function's."""
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        with torch.enable_grad():
            y = g.detach().requires_grad_()
            return torch.autograd.grad(Hidden.apply(y), y, torch.ones_like(y))[0] * g

class Hidden(Abstract):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

class Unused(Abstract):
    @staticmethod
    def forward(ctx, x):
        return 2 * x
'''
CLASSES = '''
import torch

class Layer:
    def __init__(self, factor=2.0):
        self.factor = factor

    def forward(self, x):
        return self.factor * x

    def backward(self, g):
        self.dx = self.factor * g
        return self.dx

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner(2.0)

    def forward(self, x):
        return self.inner.forward(x)

    def backward(self, g):
        self.dx = self.inner.backward(g)

class Inner(Layer):
    pass

class Value:
    """No forward beside it."""
    def backward(self):
        pass

class Optional:
    def forward(self, x):
        return x

    def backward(self, g):
        raise NotImplementedError
'''
CUSTOM = """
import torch

NAMESPACE = "gradharness_audit"

@torch.library.custom_op(f"{NAMESPACE}::cubed", mutates_args=())
def cubed(x: torch.Tensor) -> torch.Tensor:
    return x ** 3

def setup(ctx, inputs, output):
    ctx.save_for_backward(inputs[0])

def backward(ctx, g):
    return 3 * ctx.saved_tensors[0] ** 2 * g

cubed.register_autograd(backward, setup_context=setup)

@torch.library.custom_op("gradharness_audit::counted", mutates_args=())
def counted(x: torch.Tensor) -> torch.Tensor:
    return x.clone()

library = torch.library.Library(NAMESPACE, "FRAGMENT")
library.define("negated(Tensor x) -> Tensor")
library.impl("negated", lambda x: -x, "CPU")
torch.library.register_autograd("gradharness_audit::negated", lambda ctx, g: -g, lib=library)

library.define("halved(Tensor x) -> Tensor")
library.impl("halved", lambda x: x / 2, "CPU")

class Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.gradharness_audit.halved(x)

    @staticmethod
    def backward(ctx, g):
        return g / 2

library.impl("halved", Halved.apply, "Autograd")
"""
TESTS = """
import torch
from gradharness import gradient_test, manual
from pack import bases, classes, custom, ops

ONLY = {"checks": ("vjp",)}

test_renamed = gradient_test(ops.Renamed, x="n", **ONLY)
test_once = gradient_test(ops.Once, x="n", **ONLY)
test_vjp = gradient_test(ops.Vjp, x="n", **ONLY)

@gradient_test(x="n", **ONLY)
def test_together(x):
    return ops.Outer.Inner.apply(x) + ops.Either.apply(x)

@gradient_test(x="n", **ONLY)
def test_local(x):
    return ops.make(3.0).apply(x)

test_deep = gradient_test(ops.Deep, x="n", **ONLY)
test_net = gradient_test(manual(classes.Net, gradients=lambda net: {"x": net.dx}), x="n", **ONLY)
test_cubed = gradient_test(custom.cubed, x="n", **ONLY)

@gradient_test(x="n", **ONLY)
def test_negated(x):
    return torch.ops.gradharness_audit.negated(x)

@gradient_test(x="n", **ONLY)
def test_halved(x):
    return torch.ops.gradharness_audit.halved.default(x)

@gradient_test(x="n", **ONLY)
def test_raises(x):
    raise RuntimeError("no such kernel")

@gradient_test(x="n", **ONLY)
def test_raises_late(x):
    y = ops.Unused.apply(x)
    y.register_hook(lambda g: 1 / 0)
    return y

test_elsewhere = gradient_test(ops.Unused, x="n", devices=("cuda:99",), **ONLY)
"""

FILES = {"bases": BASES, "ops": OPS, "classes": CLASSES, "custom": CUSTOM}


def write_package(folder, name="pack", **files):
    """Files of a package; ``__init__`` is empty unless it is given."""
    root = folder / name
    root.mkdir(parents=True, exist_ok=True)
    for stem, text in {"__init__": "", **files}.items():
        (root / f"{stem}.py").write_text(textwrap.dedent(text))
    return root
