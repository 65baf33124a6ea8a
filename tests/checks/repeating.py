"""What the tests of checks that call more than once share: small subjects, and running a finding's script."""

import io
from contextlib import redirect_stdout

import torch

from gradharness import check


def randn(*shapes):
    """The inputs that most people would try."""
    g = torch.Generator().manual_seed(1)
    return tuple(torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes)


X = (3, 4)


def looked(subject, name, *shapes, **rest):
    """The result of one check."""
    return check(subject, randn(*(shapes or (X,))), checks=(name,), seed=0, **rest).results[0]


def exit_status(source):
    """That of a script, run in this process; 1 for an exception, as Python has it."""
    try:
        with redirect_stdout(io.StringIO()):
            exec(compile(source, "reproducer.py", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return end.code
    except Exception:
        return 1
    raise AssertionError("a script ends by sys.exit")


def statuses(finding, wrong, right):
    """(on the faulty subject, on its twin) of a finding's script: the twin's name stands in for the other's."""
    return exit_status(finding.reproducer), exit_status(finding.reproducer.replace(wrong.__name__, right.__name__))


class Square(torch.autograd.Function):
    """x², right in every respect."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class Layer:
    """tanh(x @ w) by hand; adds up its gradients, and undoes its calls in reverse order."""

    def __init__(self):
        self.grad, self.calls = {}, []

    def forward(self, x, w):
        y = torch.tanh(x @ w)
        self.push((x, w, y))
        return y

    def backward(self, g):
        x, w, y = self.pop()
        d = g * (1 - y * y)
        self.put("x", d @ w.mT)
        self.put("w", x.mT @ d)

    def push(self, call):
        self.calls.append(call)

    def pop(self):
        return self.calls.pop()

    def put(self, name, value):
        self.grad[name] = self.grad[name] + value if name in self.grad else value


def left(obj):
    """Where a layer leaves its gradients."""
    return obj.grad
