"""Lines of a reproducer that show what is wrong with a module, where a plain backward does not.

They use ``build_module()`` of the script: a module of the kind, built anew.
"""

from __future__ import annotations

from collections.abc import Sequence

Steps = tuple[str, ...]

STRANGERS = (
    "module = loaded(build_module())",
    "nodes, found = [t.grad_fn for t in run(module) if t.grad_fn is not None], []",
    "for node in nodes:",
    "    found += [node.variable] if hasattr(node, 'variable') else []",
    "    nodes += [parent for parent, _ in node.next_functions if parent is not None]",
    "known = {id(p) for p in module.parameters()}",
    "sys.exit(int(any(id(t) not in known for t in found)))",
)
SAVED = (
    "torch.manual_seed(0); module = loaded(build_module())",
    "torch.manual_seed(1); other = loaded(build_module())",
    "other.load_state_dict(module.state_dict())",
    "sys.exit(int(not same(run(other), run(module))))",
)
REFRESHED = (
    "fresh, used = loaded(build_module()), loaded(build_module())",
    "run(used)",
    "moved = {n: v * 1.125 if v.is_floating_point() else v for n, v in fresh.state_dict().items()}",
    "fresh.load_state_dict(moved); used.load_state_dict(moved)",
    "sys.exit(int(not same(run(used), run(fresh))))",
)
DEEPCOPY = (
    "import copy",
    "module = loaded(build_module())",
    "sys.exit(int(not same(run(copy.deepcopy(module)), run(module))))",
)
PICKLED = (
    "import pickle",
    "module = loaded(build_module())",
    "sys.exit(int(not same(run(pickle.loads(pickle.dumps(module))), run(module))))",
)
CLEARED = (
    "module = loaded(build_module())",
    "sum(t.sum() for t in run(module) if t.requires_grad).backward()",
    "module.zero_grad()",
    "sys.exit(int(any(p.grad is not None and p.grad.any() for p in module.parameters())))",
)
DRAWS_IN_EVAL = (
    "module = loaded(build_module()).eval()",
    "sys.exit(int(not same(run(module, 0), run(module, 1))))",
)
MODES = (
    "train, evaluated = loaded(build_module()).train(), loaded(build_module()).eval()",
    "sys.exit(int(not same(run(train), run(evaluated))))",
)


def registered(name: str) -> Steps:
    """Whether this is a parameter or a buffer, by its name in a ``state_dict``."""
    return (
        "module = build_module()",
        f"sys.exit(int({name!r} not in {{**dict(module.named_parameters()), **dict(module.named_buffers())}}))",
    )


def learned(name: str) -> Steps:
    """Whether this is a parameter."""
    return ("module = build_module()", f"sys.exit(int({name!r} not in dict(module.named_parameters())))")


def dead(number: int) -> Steps:
    """Whether the gradient of this leaf is nothing, or zero."""
    return (
        f"got = start(arguments, leaves)(cotangents)[{number}]",
        "sys.exit(int(got is None or not got.any()))",
    )


def rows_forward(row: int, count: int) -> Steps:
    """Whether this row of an output changes with the other rows."""
    return (
        "module = loaded(build_module())",
        "here = run(module)",
        "def other(t):",
        f"    if not isinstance(t, torch.Tensor) or not t.dim() or t.shape[0] != {count}:",
        "        return t",
        "    moved = t.detach().roll(1, 0)",
        "    moved = moved * 0.5 + 0.25 if moved.is_floating_point() else moved.clone()",
        f"    moved[{row}] = t.detach()[{row}]",
        "    return moved",
        "inputs = [other(v) for v in inputs]",
        f"pairs = [(a[{row}], b[{row}]) for a, b in zip(here, run(module)) if a.dim() and a.shape[0] == {count}]",
        "sys.exit(int(not same(*zip(*pairs))))",
    )


def rows_backward(row: int, count: int) -> Steps:
    """Whether a cotangent in this row alone gives a gradient in another one."""
    return (
        f"rows = torch.arange({count}) == {row}",
        f"weights = [w * rows.view(-1, *[1] * (w.dim() - 1)) if w.dim() and w.shape[0] == {count} else w * 0",
        "           for w in cotangents]",
        "found = start(arguments, leaves)(weights)[:len(inputs)]",
        f"rest = [g[~rows].abs().max() for g in found if g is not None and g.dim() and g.shape[0] == {count}]",
        "sys.exit(int(any(value > 1e-12 for value in rest)))",
    )


def complete(steps: Steps, count: int, names: Sequence[str]) -> Steps:
    """The steps after what they use.

    Args:
        steps: From above.
        count: How many of the arguments are inputs.
        names: The other arguments' names in a ``state_dict``.
    """
    return (
        f"inputs, values, names = [*arguments.values()][:{count}], [*arguments.values()][{count}:], {list(names)!r}",
        "def loaded(module):",
        "    held = {**dict(module.named_parameters()), **dict(module.named_buffers())}",
        "    for name, value in zip(names, values):",
        "        held[name].data = value.detach().clone()",
        "    return module",
        "def run(module, seed=0):",
        "    torch.manual_seed(seed)",
        "    output = module(*[v.detach().clone() if isinstance(v, torch.Tensor) else v for v in inputs])",
        "    return [t for t in torch.utils._pytree.tree_leaves(output) if isinstance(t, torch.Tensor)]",
        "def same(got, expected):",
        "    return all(a.shape == b.shape and torch.allclose(a, b) for a, b in zip(got, expected))",
        *steps,
    )
