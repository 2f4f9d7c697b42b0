"""Other heads and losses."""

from __future__ import annotations

import torch
from torch import nn

from tests import networks
from tests.cases.registry import Problem, case, classes, n, train
from tests.networks import Forward


@case()
def one_logit() -> Problem:
    x, y = classes((5,), 2)
    return train(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)), x, y, "bce")


@case()
def one_logit_without_axis() -> Problem:
    x, y = classes((5,), 2)
    model = Forward(networks.single_logit, inner=nn.Linear(5, 8), head=nn.Linear(8, 1))
    return train(model, x, y.float(), "bce")


@case()
def regression_on_one_output() -> Problem:
    x = torch.randn(n, 5)
    return train(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)), x, x[:, :1] * x[:, 1:2], "mse")


@case(piecewise_linear=True)
def regression_on_three_outputs() -> Problem:
    x = torch.randn(n, 5)
    return train(nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 3)), x, x[:, :3] * x[:, 2:], "mse")


@case()
def more_outputs_than_weights_see() -> Problem:
    """nC' exceeds p: the kernel has exact zeros among its eigenvalues."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 6, bias=False))
    return train(model, *classes((2,), 6), "cross_entropy")
