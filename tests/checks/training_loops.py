"""Training loops of a small network, right and wrong."""

import torch
from torch.nn.functional import mse_loss


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x)


def descended(model, batches, optimizer, loss=mse_loss):
    """What the course writes."""
    for x, y in batches:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()


def plain(model, batches):
    descended(model, batches, torch.optim.SGD(model.parameters(), lr=0.01))


def forgets_zero_grad(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for x, y in batches:
        mse_loss(model(x), y).backward()
        optimizer.step()


def clears_before_the_step(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for x, y in batches:
        mse_loss(model(x), y).backward()
        optimizer.zero_grad()
        optimizer.step()


def other_rate(model, batches):
    descended(model, batches, torch.optim.SGD(model.parameters(), lr=0.005))


def summed_loss(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    descended(model, batches, optimizer, torch.nn.MSELoss(reduction="sum"))


def by_hand(model, batches, factor=2.0):
    """Right: no autograd, and all weights at once."""
    weight, bias = model.linear.weight, model.linear.bias
    with torch.no_grad():
        for x, y in batches:
            error = factor * (model(x) - y) / y.numel()
            torch._foreach_sub_([weight, bias], [error.T @ x, error.sum(0)], alpha=0.01)


def by_hand_without_two(model, batches):
    by_hand(model, batches, factor=1.0)


def by_hand_one_by_one(model, batches):
    with torch.no_grad():
        for x, y in batches:
            model.linear.weight -= 0.01 * (2 * (model(x) - y) / y.numel()).T @ x
            model.linear.bias -= 0.01 * (2 * (model(x) - y) / y.numel()).sum(0)


def only_weight(model, batches):
    descended(model, batches, torch.optim.SGD([model.linear.weight], lr=0.01))


def with_momentum(model, batches):
    descended(model, batches, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))


def new_optimizer(model, batches):
    for x, y in batches:
        with_momentum(model, [(x, y)])


def adam_with_decay(model, batches):
    descended(model, batches, torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1))


def with_adamw(model, batches):
    descended(model, batches, torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1))


def through_data(model, batches):
    """Right: an update through .data, with gradients that are cleared after it."""
    for x, y in batches:
        mse_loss(model(x), y).backward()
        for parameter in model.parameters():
            parameter.data = parameter.data - 0.01 * parameter.grad.data
        model.zero_grad(set_to_none=False)


def replaces(model, batches):
    for x, y in batches:
        model.zero_grad()
        mse_loss(model(x), y).backward()
        linear = model.linear
        linear.weight = torch.nn.Parameter(linear.weight - 0.01 * linear.weight.grad)
        linear.bias = torch.nn.Parameter(linear.bias - 0.01 * linear.bias.grad)


def trains_copies(model, batches):
    copies = [p.detach().clone().requires_grad_() for p in model.parameters()]
    optimizer = torch.optim.SGD(copies, lr=0.01)
    descended(model, batches, optimizer)


def decays_rate(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    for batch in batches:
        descended(model, [batch], optimizer)
        schedule.step()


def accumulates(model, batches, share=0.5):
    """Right: an update for every second batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for number, (x, y) in enumerate(batches):
        if number % 2 == 0:
            optimizer.zero_grad()
        (share * mse_loss(model(x), y)).backward()
        if number % 2 == 1:
            optimizer.step()


def accumulates_sums(model, batches):
    accumulates(model, batches, share=1.0)


class Dropping(Net):
    def forward(self, x):
        return torch.nn.functional.dropout(self.linear(x), 0.3)


class Cancelling(torch.nn.Module):
    """A bias that is added to all scores of a softmax, so that its gradient is zero but for round-off."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return (x * self.a + self.b).softmax(1)


def cancelled(y, target):
    return (y * target).sum()


def noisy_by_hand(model, batches):
    """Right, with other round-off in the gradient of the bias."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for x, target in batches:
        y = model(x).detach()
        slope = y * (target - (y * target).sum(1, keepdim=True))
        model.a.grad, model.b.grad = (slope * x).sum(0), slope.flip(0, 1).sum(1).sum()
        optimizer.step()


def wrong_at_150(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 0.01 if step < 150 else 0.02
        descended(model, [batch], optimizer)


def two_epochs(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        descended(model, batches, optimizer)


def reads_ahead(model, batches):
    plain(model, list(batches))


def breaks(model, batches):
    for _ in batches:
        raise AttributeError("no such attribute")
