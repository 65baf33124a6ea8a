"""Gives modules of ``torch.nn``, and modules as people write them, to ``gradharness.check`` with all checks.

All of them are right, so that every error is a false alarm, and makes the exit code 1, unless it is one of ``PINS``:
there PyTorch itself is wrong, which each pin can show. Warnings are printed.

python -m properties.torch_modules
python -m properties.torch_modules --only LSTM --seed 3
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from gradharness import Severity, module
from properties.pinned_alarms import Pin
from properties.silence import Heard, listen
from properties.subjects import Correct, correct, integers, uniform

SEQUENCE = (3, 2, 4)
IMAGE = (2, 4, 5, 5)


def fixed_pair(g: torch.Generator) -> tuple[torch.Tensor, ...]:
    """The state of a cell."""
    return tuple(torch.randn(2, 3, generator=g, dtype=torch.float64).requires_grad_() for _ in range(2))


def _one(name: str, make, *inputs: object, train: bool | None = None, rows: bool = False) -> Correct:
    return correct(name, module(make, train=train, independent_rows=rows, name=name.replace(" ", "_")), *inputs)


LAYERS = [
    _one("Linear", lambda: nn.Linear(4, 3), (5, 4), rows=True),
    _one("Linear with specs", lambda: nn.Linear(4, 3), {"input": "n d"}),
    _one("Bilinear", lambda: nn.Bilinear(3, 2, 4), (5, 3), (5, 2), rows=True),
    _one("Conv1d", lambda: nn.Conv1d(3, 2, 2), (2, 3, 6), rows=True),
    _one("Conv2d", lambda: nn.Conv2d(4, 2, 3, padding=1), IMAGE),
    _one("Conv2d in groups", lambda: nn.Conv2d(4, 4, 3, groups=2, stride=2), IMAGE),
    _one("Conv3d", lambda: nn.Conv3d(2, 2, 2), (1, 2, 3, 3, 3)),
    _one("ConvTranspose2d", lambda: nn.ConvTranspose2d(4, 2, 2, stride=2), (2, 4, 3, 3)),
    _one("Embedding", lambda: nn.Embedding(7, 3), integers(2, 4, below=7)),
    _one("EmbeddingBag", lambda: nn.EmbeddingBag(7, 3), integers(2, 4, below=7)),
    _one("LayerNorm", lambda: nn.LayerNorm(4), (3, 4), rows=True),
    _one("GroupNorm", lambda: nn.GroupNorm(2, 4), IMAGE),
    _one("RMSNorm", lambda: nn.RMSNorm(4), (3, 4)),
    _one("BatchNorm1d in train mode", lambda: nn.BatchNorm1d(4), (5, 4), train=True),
    _one("BatchNorm1d in eval mode", lambda: nn.BatchNorm1d(4), (5, 4), train=False, rows=True),
    _one("BatchNorm2d", lambda: nn.BatchNorm2d(4), IMAGE),
    _one("InstanceNorm1d", lambda: nn.InstanceNorm1d(3, affine=True), (2, 3, 5)),
    _one("LocalResponseNorm", lambda: nn.LocalResponseNorm(3), (2, 4, 6)),
    _one("PReLU", lambda: nn.PReLU(), (3, 4)),
    _one("Dropout", lambda: nn.Dropout(0.3), (3, 4), train=True),
    _one("AdaptiveAvgPool1d", lambda: nn.AdaptiveAvgPool1d(2), (2, 3, 6)),
    _one("MaxPool2d", lambda: nn.MaxPool2d(2), (1, 2, 4, 4)),
    _one("PixelShuffle", lambda: nn.PixelShuffle(2), (1, 4, 2, 3)),
    _one("CosineSimilarity", lambda: nn.CosineSimilarity(), (3, 4), (3, 4)),
    _one("PairwiseDistance", lambda: nn.PairwiseDistance(), (3, 4), (3, 4)),
    _one("GLU", lambda: nn.GLU(), (3, 4)),
    _one("Softmax", lambda: nn.Softmax(-1), (3, 4)),
    _one(
        "CrossEntropyLoss with weights", lambda: nn.CrossEntropyLoss(torch.rand(3) + 0.5), (5, 3), integers(5, below=3)
    ),
    _one("BCEWithLogitsLoss", lambda: nn.BCEWithLogitsLoss(), (3, 4), uniform(3, 4)),
]

NETWORKS = [
    _one("RNN", lambda: nn.RNN(4, 3), SEQUENCE),
    _one("LSTM", lambda: nn.LSTM(4, 3, num_layers=2), SEQUENCE),
    _one("LSTM both ways", lambda: nn.LSTM(4, 3, bidirectional=True, proj_size=2), SEQUENCE),
    _one("GRU", lambda: nn.GRU(4, 3, batch_first=True), SEQUENCE),
    _one("LSTMCell", lambda: nn.LSTMCell(4, 3), (2, 4), fixed_pair),
    _one("MultiheadAttention", lambda: nn.MultiheadAttention(4, 2), SEQUENCE, SEQUENCE, SEQUENCE),
    _one(
        "MultiheadAttention of other keys",
        lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
        SEQUENCE,
        (3, 2, 3),
        (3, 2, 5),
    ),
    _one("TransformerEncoderLayer", lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0), SEQUENCE),
    _one(
        "TransformerEncoderLayer with dropout", lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), SEQUENCE
    ),
    _one("TransformerDecoderLayer", lambda: nn.TransformerDecoderLayer(4, 2, 8, dropout=0.0), SEQUENCE, SEQUENCE),
    _one("an MLP", lambda: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2)), (5, 4), rows=True),
    _one(
        "a convolutional network",
        lambda: nn.Sequential(
            nn.Conv2d(4, 3, 3, bias=False), nn.BatchNorm2d(3), nn.SiLU(), nn.Flatten(), nn.Linear(27, 2)
        ),
        IMAGE,
    ),
    _one(
        "an MLP with dropout",
        lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 2)),
        (5, 4),
    ),
    _one("weight_norm", lambda: parametrizations.weight_norm(nn.Linear(4, 3)), (5, 4)),
    _one("spectral_norm in eval mode", lambda: parametrizations.spectral_norm(nn.Linear(4, 3)), (5, 4), train=False),
    _one("orthogonal", lambda: parametrizations.orthogonal(nn.Linear(3, 3)), (5, 3)),
]

SUBJECTS: tuple[Correct, ...] = (*LAYERS, *NETWORKS)


def _normalised(weight: torch.Tensor, cotangent: torch.Tensor) -> torch.Tensor:
    """Gradient of batch norm's input, for statistics of zeros and ones: cotangent · weight / sqrt(1 + 1e-5)."""
    x = torch.ones(cotangent.shape, dtype=torch.float64, requires_grad=True)
    shape = cotangent.shape[1]
    zeros, ones = torch.zeros(shape, dtype=torch.float64), torch.ones(shape, dtype=torch.float64)
    return torch.autograd.grad(F.batch_norm(x, zeros, ones, weight, zeros), x, cotangent)[0]


def _strided_weight_of_batch_norm() -> bool:
    """The backward reads the memory of a weight with gaps as if there were none."""
    weight = torch.tensor([[2.0, 0.0], [3.0, 0.0]], dtype=torch.float64)[:, 0]
    cotangent = torch.ones(1, 2, dtype=torch.float64)
    return not torch.allclose(_normalised(weight, cotangent), _normalised(weight.clone(), cotangent))


def _strided_cotangent_of_batch_norm() -> bool:
    """The backward reads another element where the strides of a cotangent look like channels-last and are not."""
    right = torch.arange(8, dtype=torch.float64).reshape(1, 4, 2, 1)
    strided = torch.empty_strided((1, 4, 2, 1), (1, 1, 4, 8), dtype=torch.float64).copy_(right)
    weight = torch.ones(4, dtype=torch.float64)
    return not torch.allclose(_normalised(weight, strided), _normalised(weight, right))


def _mixed_slope_of_prelu() -> bool:
    """At zero prelu's gradient is cotangent · weight, and its derivative by the cotangent is not weight."""
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    w = torch.ones(1, dtype=torch.float64, requires_grad=True)
    weight = torch.full((1,), 0.25, dtype=torch.float64)
    (slope,) = torch.autograd.grad(F.prelu(x, weight), x, w, create_graph=True)
    (mixed,) = torch.autograd.grad(slope, w)
    return bool(slope == weight) and not bool(mixed == weight)


def _second_slope_of_weight_norm() -> bool:
    """With one element, g · v / |v| does not change with v > 0: all its derivatives by v are zero."""
    v = torch.tensor([[3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    g = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)

    def slope(normed: torch.Tensor) -> torch.Tensor:
        (first,) = torch.autograd.grad(normed[0, 0], v, create_graph=True)
        return torch.autograd.grad(first.sum(), v)[0]

    return not torch.allclose(slope(torch._weight_norm(v, g, 0)), slope(g * v / v.norm()))


_BATCH_NORMS = ("BatchNorm1d in train mode", "BatchNorm1d in eval mode", "BatchNorm2d", "a convolutional network")
PINS = (
    Pin(
        subjects=_BATCH_NORMS,
        check="program",
        says="where its inputs are results of other ops",
        reason="batch norm's backward takes a weight with gaps in its memory for a contiguous one",
        shown=_strided_weight_of_batch_norm,
    ),
    Pin(
        subjects=_BATCH_NORMS,
        check="layout",
        reason="batch norm's backward misreads a transposed cotangent, or a weight with gaps",
        shown=_strided_cotangent_of_batch_norm,
    ),
    Pin(
        subjects=("PReLU",),
        check="double_backward",
        reason="at zero the second derivative is that of the other side",
        shown=_mixed_slope_of_prelu,
    ),
    Pin(
        subjects=("weight_norm",),
        check="double_backward",
        says="original1",
        reason="the second derivative of torch._weight_norm is wrong on the CPU",
        shown=_second_slope_of_weight_norm,
    ),
)


def alarms(one: Heard) -> list[str]:
    """What is said of a module and is no defect of PyTorch."""
    if one.report is None:
        return [one.raised]
    errors = [f for f in one.report.findings if f.severity is Severity.ERROR]
    mine = [f for f in errors if not any(pin.excuses(one.name, f) and pin.shown() for pin in PINS)]
    return [f"{f.check}: {f.message}" for f in mine] + [text for text in one.undecided if "internal error" in text]


def table(heard: list[Heard]) -> Iterator[str]:
    """One line per module: what was said of it."""
    for one in heard:
        verdict = one.report.verdict.name if one.report else "raised"
        undecided = ", ".join(text.partition(":")[0] for text in one.undecided)
        false = len(alarms(one))
        said = f"{false} false alarms, {len(one.alarms) - false} pinned, {len(one.warnings)} warnings"
        yield f"{one.name:<40}{verdict:<11}{one.seconds:6.1f} s  {said}{'; undecided: ' * bool(undecided)}{undecided}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="modules whose name contains this")
    parser.add_argument("--checks", default="", help="names of checks with commas between; all by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    checks = tuple(options.checks.split(",")) if options.checks else None
    heard = []
    for one in SUBJECTS:
        if options.only in one.name:
            heard.append(listen(one, options.seed, checks))
            print(*table(heard[-1:]), sep="\n", flush=True)
            for text in (*alarms(heard[-1]), *heard[-1].warnings, *heard[-1].undecided):
                print(f"    {text}", flush=True)
    print(f"{len(heard)} modules, {sum(bool(alarms(one)) for one in heard)} with a false alarm")
    return 1 if any(map(alarms, heard)) else 0


if __name__ == "__main__":
    sys.exit(main())
