"""Modules with one mistake each in how they keep or use their tensors, and the same modules without it."""

import copy

import torch
import torch.nn.functional as F
from torch import nn


def weight(*shape):
    return torch.randn(shape) / 2


class Layer(nn.Module):
    """x W + b; what its subclasses get wrong is how they keep the weight."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(weight(3))
        self.keep()

    def keep(self):
        self.weight = nn.Parameter(weight(4, 3))

    def matrix(self):
        return self.weight

    def forward(self, x):
        return x @ self.matrix().to(x.dtype) + self.bias


class PlainTensorThatRequiresGrad(Layer):
    def keep(self):
        self.weight = weight(4, 3).requires_grad_()


class ParameterInAList(Layer):
    def keep(self):
        self.weights = [nn.Parameter(weight(4, 3))]

    def matrix(self):
        return self.weights[0]


class ParameterInAParameterList(ParameterInAList):
    def keep(self):
        self.weights = nn.ParameterList([nn.Parameter(weight(4, 3))])


class ParameterInADict(Layer):
    def keep(self):
        self.weights = {"first": nn.Parameter(weight(4, 3))}

    def matrix(self):
        return self.weights["first"]


class ParameterInAParameterDict(ParameterInADict):
    def keep(self):
        self.weights = nn.ParameterDict({"first": nn.Parameter(weight(4, 3))})


class ParameterInATuple(ParameterInAList):
    def keep(self):
        self.weights = (nn.Parameter(weight(4, 3)),)


class ModulesInAList(nn.Module):
    kind = list

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 4)
        self.layers = self.kind([nn.Linear(4, 4), nn.Linear(4, 2)])

    def forward(self, x):
        x = self.head(x)
        for layer in self.layers:
            x = layer(x).tanh()
        return x


class ModulesInAModuleList(ModulesInAList):
    kind = nn.ModuleList


class ModulesInADict(nn.Module):
    kind = dict

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 4)
        self.blocks = self.kind({"a": nn.Linear(4, 2)})

    def forward(self, x):
        return self.blocks["a"](self.head(x))


class ModulesInAModuleDict(ModulesInADict):
    kind = nn.ModuleDict


class ScaledParameter(Layer):
    """What is assigned is no Parameter but the result of a product."""

    def keep(self):
        self.weight = nn.Parameter(weight(4, 3)) * 0.1


class LearnableBuffer(Layer):
    def keep(self):
        self.register_buffer("weight", weight(4, 3).requires_grad_())


class LayerMadeInForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        return nn.Linear(4, 2, dtype=x.dtype)(self.head(x))


class LayerMadeOnce(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 4)
        self.tail = nn.Linear(4, 2)

    def forward(self, x):
        return self.tail(self.head(x))


class DrawnAndNotSaved(Layer):
    """A random projection that a saved and loaded module draws anew."""

    def keep(self):
        self.projection = weight(4, 3)

    def matrix(self):
        return self.projection


class DrawnAndSaved(Layer):
    def keep(self):
        self.register_buffer("projection", weight(4, 3))

    def matrix(self):
        return self.projection


class DrawnAndNotPersistent(DrawnAndSaved):
    def keep(self):
        self.register_buffer("projection", weight(4, 3), persistent=False)


class MaskLeftBehind(Layer):
    def keep(self):
        super().keep()
        self.mask = torch.ones(4, 3).triu()

    def matrix(self):
        return self.weight * self.mask


class MaskInABuffer(MaskLeftBehind):
    def keep(self):
        Layer.keep(self)
        self.register_buffer("mask", torch.ones(4, 3).triu(), persistent=False)


class MatrixOfOneDtype(Layer):
    """``matmul`` takes no two dtypes."""

    def keep(self):
        self.mixing = torch.eye(4).flip(0)
        super().keep()

    def forward(self, x):
        return super().forward(x @ self.mixing)


class MatrixThatFollows(MatrixOfOneDtype):
    def keep(self):
        Layer.keep(self)
        self.register_buffer("mixing", torch.eye(4).flip(0))


class DeadParameter(Layer):
    def keep(self):
        super().keep()
        self.scale = nn.Parameter(torch.ones(3))


class TimesZero(DeadParameter):
    def forward(self, x):
        return super().forward(x) + 0 * self.scale


class ScaleInUse(DeadParameter):
    def forward(self, x):
        return super().forward(x) * self.scale


class FrozenParameter(DeadParameter):
    """Meant to rest, and not even used."""

    def keep(self):
        super().keep()
        self.scale.requires_grad_(False)


class ForgetfulZeroGrad(Layer):
    def zero_grad(self, set_to_none=True):
        self.bias.grad = None


class OwnZeroGrad(Layer):
    def zero_grad(self, set_to_none=True):
        for p in self.parameters():
            p.grad = None


class SharesOnDeepcopy(Layer):
    """Its copy computes with one of twice the size."""

    def __deepcopy__(self, memo):
        other = SharesOnDeepcopy()
        other.weight = nn.Parameter(2 * self.weight.detach())
        return other


class CopiesItself(Layer):
    def __deepcopy__(self, memo):
        other = CopiesItself()
        other.weight = nn.Parameter(self.weight.detach().clone())
        other.bias = nn.Parameter(self.bias.detach().clone())
        return other


class RemembersItself(Layer):
    """The function holds on to the module that made it, also in a copy."""

    def keep(self):
        super().keep()
        self.look_up = lambda: self.weight

    def matrix(self):
        return self.look_up()


class LooksItUp(Layer):
    def matrix(self):
        return getattr(self, "weight")  # noqa: B009


class ForgetsOnPickling(Layer):
    def __getstate__(self):
        kept = copy.copy(self.__dict__)
        kept["_parameters"] = {**kept["_parameters"], "bias": nn.Parameter(torch.zeros_like(self.bias))}
        return kept


class KeepsTheProduct(Layer):
    """A cache that nothing refreshes when other weights are loaded."""

    def keep(self):
        super().keep()
        self.product = None

    def matrix(self):
        if self.product is None:
            self.product = (self.weight * 2).detach()
        return self.product + 0 * self.weight


class KeepsItForReading(KeepsTheProduct):
    def matrix(self):
        self.product = self.weight * 2
        return self.product


class DropsAKey(Layer):
    def state_dict(self, *arguments, **keywords):
        kept = super().state_dict(*arguments, **keywords)
        del kept["weight"]
        return kept


class MixesRows(Layer):
    def forward(self, x):
        return super().forward(x - x.mean(0, keepdim=True))


class MixesRowsUnseen(Layer):
    """No gradient tells of it."""

    def forward(self, x):
        return super().forward(x - x.detach().mean(0, keepdim=True))


class CentresRows(Layer):
    def forward(self, x):
        return super().forward(x - x.mean(1, keepdim=True))


class DropoutInEvalMode(Layer):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5)


class DropoutInTrainMode(Layer):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5, training=self.training)


class OtherFunctionInEvalMode(Layer):
    def forward(self, x):
        y = super().forward(x)
        return 2 * y if self.training else y


class NoSuper(nn.Module):
    def __init__(self):
        self.weight = nn.Parameter(weight(4, 3))
        super().__init__()


class NoSuperAndALayer(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x)


class NoSuperAndNothing(nn.Module):
    def __init__(self):
        self.size = 3

    def forward(self, x):
        return x * self.size


class BreaksInInit(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2) @ torch.randn(3))


# --- right, and unusual -------------------------------------------------------------------------------------------


class CausalMask(nn.Module):
    """A mask that is made for the first length that comes, and kept."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4)
        self.mask = None

    def forward(self, x):
        if self.mask is None or self.mask.shape[0] != x.shape[0] or self.mask.device != x.device:
            self.mask = torch.ones(x.shape[0], x.shape[0], dtype=torch.bool, device=x.device).tril()
        scores = (self.map(x) @ x.mT).masked_fill(~self.mask, -torch.inf)
        return scores.softmax(-1) @ x


class Positions(nn.Module):
    """A table of sines, in a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        angle = torch.arange(16)[:, None] / 100 ** (torch.arange(4) / 4)
        self.register_buffer("table", torch.where(torch.arange(4) % 2 == 0, angle.sin(), angle.cos()), persistent=False)
        self.map = nn.Linear(4, 3)

    def forward(self, x):
        return self.map(x + self.table[: x.shape[0] % 16].sum(0))


class PlainPositions(Positions):
    """The same table as a plain attribute, moved by forward itself."""

    def __init__(self):
        super().__init__()
        table = self.table
        del self.table
        self.table = table

    def forward(self, x):
        return self.map(x + self.table[: x.shape[0] % 16].sum(0).to(x))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.output = nn.Linear(4, 6, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens):
        return self.output(self.embedding(tokens).tanh())


class ListOfDicts(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}) for _ in range(2))

    def forward(self, x):
        for stage in self.stages:
            x = stage["b"](stage["a"](x).sin())
        return x


class KeepsItsOutput(Layer):
    def forward(self, x):
        self.last = super().forward(x)
        return self.last


class FrozenHalf(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.features(x).relu())


class CountsCalls(Layer):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


def weight_norm():
    return nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))


def old_weight_norm():
    return torch.nn.utils.weight_norm(nn.Linear(4, 3))


def dropout():
    return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))


def batch_norm():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU())
