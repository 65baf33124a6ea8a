"""The recorded steps that make operands fit have VJPs of our own as well."""

import pytest
import torch

from gradharness.programs import adapters, graph
from gradharness.programs.op import Call, Domain
from gradharness.programs.resolution import Step

_PARAMETERS = {"(mean)": {"dim": (-1, 0)}, "(scale)": {"factor": 0.25}}


@pytest.mark.parametrize("op", adapters.ALL, ids=lambda op: op.name)
@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3), (1, 1)])
def test_a_preparing_step_has_autograds_gradient(op, shape):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    if op is adapters.REAL_PART:
        x = torch.complex(x, x.flip(-1))
    parameters = _PARAMETERS.get(op.name, {})
    (y,) = op.run([x], parameters)
    w = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    (got,) = op.pull(Call((x,), (y,), parameters), [w])
    (expected,) = graph.local(Step(op, parameters, (0,), (1,), 0), [x], [w])
    assert torch.allclose(got, expected)
    assert got.shape == x.shape


def test_every_domain_has_a_step_that_leads_there():
    assert set(adapters.INTO) == set(Domain) - {Domain.REAL}
    x = torch.tensor([[-4.0, 0.0], [4.0, 1e-9]], dtype=torch.float64)
    made = {domain: op.run([x], {})[0] for domain, op in adapters.INTO.items()}
    assert made[Domain.POSITIVE].min() > 0
    assert made[Domain.UNIT].abs().max() < 1
    assert made[Domain.NONZERO].abs().min() >= 0.5
    assert made[Domain.ABOVE_ONE].min() > 1
    assert torch.linalg.eigvalsh(made[Domain.SPD]).min() > 0.9
    assert torch.linalg.cond(made[Domain.WELL_CONDITIONED]) < 4
    assert torch.equal(made[Domain.LOWER].triu(1), torch.zeros(2, 2).double())
    assert made[Domain.LOWER].diagonal().min() > 0
