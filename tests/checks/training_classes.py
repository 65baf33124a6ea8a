"""A linear regression with its update written by hand, and the ways to get it wrong."""

import torch


def squared_error(y_hat, y):
    return ((y_hat - y) ** 2).mean()


def sgd(params):
    return torch.optim.SGD(params, lr=0.01)


def left(one):
    return one.grads


class Linear:
    """Right."""

    def __init__(self, d=2):
        self.W, self.b, self.lr, self.grads = torch.zeros(d), torch.tensor(0.0), 0.01, {}

    def forward(self, x):
        return x @ self.W + self.b

    def backward(self, x, y_hat, y):
        self.grads = {"W": 2 * x.T @ (y_hat - y) / len(x), "b": 2 * (y_hat - y).mean()}

    def optimize(self):
        self.W -= self.lr * self.grads["W"]
        self.b -= self.lr * self.grads["b"]


class Twice(Linear):
    def optimize(self):
        super().optimize()
        super().optimize()


class Squared(Linear):
    def optimize(self):
        self.W -= self.lr * (self.lr * self.grads["W"])
        self.b -= self.lr * (self.lr * self.grads["b"])


class NoRate(Linear):
    def optimize(self):
        self.W -= self.grads["W"]
        self.b -= self.grads["b"]


class Climbing(Linear):
    def optimize(self):
        self.W += self.lr * self.grads["W"]
        self.b += self.lr * self.grads["b"]


class Adding(Linear):
    def backward(self, x, y_hat, y):
        before = self.grads
        super().backward(x, y_hat, y)
        self.grads = {name: g + before.get(name, 0) for name, g in self.grads.items()}


class Late(Linear):
    def optimize(self):
        now = self.grads
        self.grads = getattr(self, "last", {name: torch.zeros_like(g) for name, g in now.items()})
        super().optimize()
        self.grads, self.last = now, now


class Summing(Linear):
    def backward(self, x, y_hat, y):
        self.grads = {"W": 2 * x.T @ (y_hat - y), "b": 2 * (y_hat - y).sum()}


class TwiceMean(Linear):
    def optimize(self):
        self.grads = {name: g / self.count for name, g in self.grads.items()}
        super().optimize()

    def forward(self, x):
        self.count = len(x)
        return super().forward(x)


class Half(Linear):
    def backward(self, x, y_hat, y):
        self.grads = {"W": x.T @ (y_hat - y) / len(x), "b": (y_hat - y).mean()}


class WrongFormula(Linear):
    def backward(self, x, y_hat, y):
        super().backward(x, y_hat, y)
        self.grads["W"] = 2 * x.abs().T @ (y_hat - y) / len(x)


class Copying(Linear):
    def optimize(self):
        weights = self.W.clone()
        weights -= self.lr * self.grads["W"]
        self.b -= self.lr * self.grads["b"]


class Growing(Linear):
    """The gradient of b keeps one entry for each sample."""

    def backward(self, x, y_hat, y):
        super().backward(x, y_hat, y)
        self.each = 2 * (y_hat - y) / len(x)

    def optimize(self):
        self.W -= self.lr * self.grads["W"]
        self.b = self.b - self.lr * self.each


class ListedInPlace(Linear):
    """Right: keeps its weights in a list as well."""

    def __init__(self, d=2):
        super().__init__(d)
        self.weights = [self.W, self.b]


class Listed(ListedInPlace):
    def optimize(self):
        self.W = self.W - self.lr * self.grads["W"]
        self.b = self.b - self.lr * self.grads["b"]


class FlatInPlace(Linear):
    """Right: its weights are views of one tensor."""

    def __init__(self, d=2):
        super().__init__(d)
        self.flat = torch.zeros(d + 1)
        self.W, self.b = self.flat[:d], self.flat[d]

    def optimize(self):
        with torch.no_grad():
            self.W.sub_(self.grads["W"], alpha=self.lr)
            self.b.sub_(self.grads["b"], alpha=self.lr)


class Flat(FlatInPlace):
    def optimize(self):
        self.W = self.W - self.lr * self.grads["W"]
        self.b = self.b - self.lr * self.grads["b"]


class Registered(torch.nn.Module):
    """Right: its weights are parameters, updated through .data."""

    def __init__(self, d=2):
        super().__init__()
        self.W, self.b = torch.nn.Parameter(torch.zeros(d)), torch.nn.Parameter(torch.tensor(0.0))
        self.lr, self.grads = 0.01, {}

    forward, backward = Linear.forward, Linear.backward

    def optimize(self):
        self.W.data = self.W.data - self.lr * self.grads["W"].detach()
        self.b.data.sub_(self.lr * self.grads["b"].detach())


class Unregistered(Registered):
    def optimize(self):
        with torch.no_grad():
            self.W = torch.nn.Parameter(self.W - self.lr * self.grads["W"])
            self.b -= self.lr * self.grads["b"]


class SharedDefault(Linear):
    """Right: the default is shared, but nobody changes it."""

    def __init__(self, d=2, lr=torch.scalar_tensor(0.01, dtype=torch.float64)):  # noqa: B008
        super().__init__(d)
        self.lr = lr


class DecayingDefault(SharedDefault):
    def optimize(self):
        super().optimize()
        self.lr *= 0.9


class ClassBuffer(Linear):
    """Accumulates into a tensor of the class."""

    total = torch.zeros(1)

    def optimize(self):
        super().optimize()
        self.total += 1


class Momentum(Linear):
    """Right, for momentum 0.9."""

    def __init__(self, d=2):
        super().__init__(d)
        self.v = {}

    def optimize(self):
        for name in ("W", "b"):
            self.v[name] = 0.9 * self.v.get(name, 0.0) + self.grads[name]
        self.move()

    def move(self):
        self.W -= self.lr * self.v["W"]
        self.b -= self.lr * self.v["b"]


VELOCITY = {}


class Global(Momentum):
    """Its buffer is a global, for all objects with weights of one size."""

    def optimize(self):
        self.v = VELOCITY.setdefault(len(self.W), {})
        super().optimize()


class Dampened(Momentum):
    def optimize(self):
        for name in ("W", "b"):
            self.v[name] = 0.9 * self.v.get(name, 0.0) + 0.1 * self.grads[name]
        self.move()


class Nesterov(Momentum):
    """Right, for Nesterov's."""

    def move(self):
        self.W -= self.lr * (self.grads["W"] + 0.9 * self.v["W"])
        self.b -= self.lr * (self.grads["b"] + 0.9 * self.v["b"])


class Decayed(Linear):
    """Right, for a weight decay of 0.1."""

    def optimize(self):
        self.W -= self.lr * (self.grads["W"] + 0.1 * self.W)
        self.b -= self.lr * (self.grads["b"] + 0.1 * self.b)


class OneByOne(Linear):
    """Updates W, and then computes b's gradient with it."""

    def forward(self, x):
        self.x = x
        return super().forward(x)

    def backward(self, x, y_hat, y):
        super().backward(x, y_hat, y)
        self.y = y

    def optimize(self):
        self.W -= self.lr * self.grads["W"]
        self.backward(self.x, self.forward(self.x), self.y)
        self.b -= self.lr * self.grads["b"]


class Adam(Linear):
    """Right."""

    corrects, inside, decoupled, coupled = True, False, 0.0, 0.0

    def __init__(self, d=2):
        super().__init__(d)
        self.t, self.m, self.v = 0, {"W": 0.0, "b": 0.0}, {"W": 0.0, "b": 0.0}

    def optimize(self):
        self.t += 1
        for name in ("W", "b"):
            weight = getattr(self, name)
            g = self.grads[name] + self.coupled * weight
            self.m[name] = 0.9 * self.m[name] + 0.1 * g
            self.v[name] = 0.999 * self.v[name] + 0.001 * g**2
            m = self.m[name] / (1 - 0.9**self.t) if self.corrects else self.m[name]
            v = self.v[name] / (1 - 0.999**self.t) if self.corrects else self.v[name]
            root = torch.sqrt(v + 1e-8) if self.inside else torch.sqrt(v) + 1e-8
            weight *= 1 - self.lr * self.decoupled
            weight -= self.lr * m / root


class Uncorrected(Adam):
    corrects = False


class EpsInside(Adam):
    inside = True


class AdamW(Adam):
    """Right, for a weight decay of 0.1."""

    decoupled = 0.1


class Coupled(Adam):
    coupled = 0.1


class ClassCounter(Adam):
    """Counts the steps of all objects together."""

    count = 0

    def optimize(self):
        type(self).count += 1
        self.t = self.count - 1
        super().optimize()


class RMSprop(Linear):
    """Right."""

    inside = False

    def __init__(self, d=2):
        super().__init__(d)
        self.v = {"W": 0.0, "b": 0.0}

    def optimize(self):
        for name in ("W", "b"):
            g = self.grads[name]
            self.v[name] = 0.99 * self.v[name] + 0.01 * g**2
            root = torch.sqrt(self.v[name] + 1e-8) if self.inside else torch.sqrt(self.v[name]) + 1e-8
            getattr(self, name).sub_(self.lr * g / root)


class RMSpropInside(RMSprop):
    inside = True


class Replacing(Linear):
    def optimize(self):
        self.W = self.W - self.lr * self.grads["W"]
        self.b = self.b - self.lr * self.grads["b"]


class Breaking(Linear):
    def optimize(self):
        raise RuntimeError("no update today")


class Scale:
    """Right: takes a cotangent, not a loss."""

    def __init__(self):
        self.a = torch.ones(1)

    def forward(self, x):
        self.x = x
        return self.a * x

    def backward(self, dy):
        self.dx, self.da = self.a * dy, self.x * dy

    def optimize(self):
        self.a -= 0.01 * self.da


class InNumpy(Linear):
    """Right: autograd sees nothing of its forward."""

    def forward(self, x):
        return torch.from_numpy(x.numpy() @ self.W.detach().numpy() + self.b.item())


class InNumpyTwice(InNumpy):
    lr = 0.02

    def optimize(self):
        self.W -= 0.02 * self.grads["W"]
        self.b -= 0.02 * self.grads["b"]


class Squashing(Linear):
    def optimize(self):
        self.W -= self.lr * torch.tanh(self.grads["W"])
        self.b -= self.lr * torch.tanh(self.grads["b"])


class ReluByHand(Linear):
    """Right, with slope one at zero."""

    def forward(self, x):
        self.z = super().forward(x)
        return torch.relu(self.z)

    def backward(self, x, y_hat, y):
        dz = 2 * (y_hat - y) / len(x) * (self.z >= 0)
        self.grads = {"W": x.T @ dz, "b": dz.sum()}


class Perceptron:
    """Right: two layers."""

    def __init__(self, d=2, k=3):
        self.W1, self.b1, self.W2 = torch.zeros(d, k), torch.zeros(k), torch.zeros(k)
        self.lr, self.grads = 0.05, {}

    def forward(self, x):
        self.h = torch.tanh(x @ self.W1 + self.b1)
        return self.h @ self.W2

    def backward(self, x, y_hat, y):
        dy = 2 * (y_hat - y) / len(x)
        self.grads["W2"] = self.h.T @ dy
        self.through(x, dy)

    def through(self, x, dy):
        dz = dy[:, None] * self.W2 * (1 - self.h**2)
        self.grads["W1"], self.grads["b1"] = x.T @ dz, dz.sum(0)

    def optimize(self):
        for name in ("W1", "b1", "W2"):
            getattr(self, name).sub_(self.lr * self.grads[name])


class UpdatesOnTheWay(Perceptron):
    """Updates the second layer before the gradient goes through it to the first."""

    def through(self, x, dy):
        self.W2 -= self.lr * self.grads["W2"]
        super().through(x, dy)

    def optimize(self):
        self.W1 -= self.lr * self.grads["W1"]
        self.b1 -= self.lr * self.grads["b1"]


class FasterFirstLayer(Perceptron):
    def optimize(self):
        super().optimize()
        self.W1 -= self.lr * self.grads["W1"]


class ForgetsTheSlope(Perceptron):
    def through(self, x, dy):
        dz = dy[:, None] * self.W2
        self.grads["W1"], self.grads["b1"] = x.T @ dz, dz.sum(0)
