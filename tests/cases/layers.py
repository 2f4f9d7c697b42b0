"""Plain stacks of layers, shared weights, unusual layers and calls, parameters outside layers."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from tests import networks
from tests.cases.registry import C, Problem, case, classes, classifier, n, train
from tests.networks import Forward


@case()
def mlp() -> Problem:
    return classifier(nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, C)), 6)


@case(piecewise_linear=True)
def relu_mlp() -> Problem:
    return classifier(nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, C)), 6)


@case(piecewise_linear=True)
def bias_free() -> Problem:
    return classifier(nn.Sequential(nn.Linear(6, 12, bias=False), nn.ReLU(), nn.Linear(12, C, bias=False)), 6)


@case(piecewise_linear=True)
def inplace_relu_with_dropout() -> Problem:
    layers = (nn.Linear(6, 9), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(9, 9), nn.ReLU(inplace=True))
    return classifier(nn.Sequential(*layers, nn.Linear(9, C)), 6)


@case(piecewise_linear=True)
def prelu() -> Problem:
    return classifier(nn.Sequential(nn.Linear(6, 9), nn.PReLU(9), nn.Linear(9, 7), nn.PReLU(), nn.Linear(7, C)), 6)


@case(piecewise_linear=True)
def cnn() -> Problem:
    layers = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten())
    return classifier(nn.Sequential(*layers, nn.Linear(5, C)), 1, 6, 6)


@case()
def conv1d() -> Problem:
    layers = (nn.Conv1d(2, 4, 3, padding=1), nn.GELU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(16, C))
    return classifier(nn.Sequential(*layers), 2, 8)


@case(piecewise_linear=True)
def grouped_strided_dilated() -> Problem:
    layers = (
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(4, 6, (3, 1), dilation=(1, 2), padding="same", groups=2, bias=False),
        nn.ReLU(),
        nn.Conv2d(6, 4, 2, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )
    return classifier(nn.Sequential(*layers, nn.Linear(16, C)), 2, 6, 6)


@case(piecewise_linear=True)
def transposed_convolution() -> Problem:
    layers = (nn.Conv2d(1, 3, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(3, 2, 2), nn.LeakyReLU(0.2), nn.Flatten())
    return classifier(nn.Sequential(*layers, nn.Linear(18, C)), 1, 4, 4)


@case(piecewise_linear=True)
def resnet_with_batchnorm() -> Problem:
    layers = (nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), networks.Residual(3))
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, C))
    problem = classifier(model, 1, 4, 4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 0.1 * torch.randn(3)
            module.running_var *= 0.5 + torch.rand(3)
    return problem


@case()
def layernorm_and_groupnorm() -> Problem:
    layers = (nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.LayerNorm([2, 3, 3]))
    model = nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.Linear(18, 6), nn.LayerNorm(6), nn.Linear(6, C))
    return classifier(model, 1, 5, 5)


@case()
def scale_invariant_weights() -> Problem:
    """A layer whose weight is computed from its parameter: what it uses and what it owns differ."""
    inner = nn.Linear(6, 8)
    register_parametrization(inner, "weight", networks.Direction())
    return classifier(nn.Sequential(inner, nn.Tanh(), nn.Linear(8, C)), 6)


@case()
def same_layer_twice() -> Problem:
    return classifier(Forward(networks.applied_twice, inner=nn.Linear(6, 6), head=nn.Linear(6, C)), 6)


@case()
def same_relu_layer_twice() -> Problem:
    return classifier(Forward(networks.relu_applied_twice, inner=nn.Linear(6, 6), head=nn.Linear(6, C)), 6)


@case()
def borrowed_weight() -> Problem:
    return classifier(Forward(networks.borrowed_weight, inner=nn.Linear(6, 6), head=nn.Linear(6, C)), 6)


@case()
def two_layers_one_weight() -> Problem:
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    return classifier(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(6, C)), 6)


@case()
def decoder_is_encoder_transposed() -> Problem:
    model = Forward(networks.transposed_weight, encoder=nn.Linear(6, 4), bias=nn.Parameter(torch.zeros(6)))
    x = torch.randn(n, 6)
    return train(model, x, x.clone(), "mse")


@case()
def side_layer_on_slices() -> Problem:
    modules = {"inner": nn.Linear(6, 6), "head": nn.Linear(6, C), "side": nn.Linear(3, C)}
    return classifier(Forward(networks.branches, **modules), 6)


@case(piecewise_linear=True)
def embedding() -> Problem:
    modules = {"table": nn.Embedding(5, 4), "inner": nn.Linear(6, 8), "head": nn.Linear(8, C)}
    x, y = classes((3,))
    x[:, 0] = torch.randint(0, 5, (n,))
    return train(Forward(networks.index_and_number, **modules), x, y, "cross_entropy")


@case()
def words() -> Problem:
    modules = {"table": nn.Embedding(7, 4), "inner": nn.Linear(4, 5), "head": nn.Linear(5, C)}
    x = torch.randint(0, 7, (n, 6)).float()
    return train(Forward(networks.token_table, **modules), x, classes((1,))[1], "cross_entropy")


@case()
def bilinear_and_raw_parameters() -> Problem:
    modules = {"pair": nn.Bilinear(4, 4, 5), "form": networks.Form(4, 5), "head": nn.Linear(5, C)}
    return classifier(Forward(networks.bilinear, **modules), 4)


@case()
def linear_by_inheritance_only() -> Problem:
    return classifier(nn.Sequential(networks.Doubled(6, 8), nn.Tanh(), nn.Linear(8, C)), 6)


@case()
def tanh_as_a_function() -> Problem:
    return classifier(Forward(networks.functional_tanh, inner=nn.Linear(6, 8), head=nn.Linear(8, C)), 6)


@case(piecewise_linear=True)
def relu_as_a_function() -> Problem:
    return classifier(Forward(networks.functional_relu, inner=nn.Linear(6, 8), head=nn.Linear(8, C)), 6)


@case(piecewise_linear=True)
def called_by_keyword() -> Problem:
    return classifier(Forward(networks.called_by_keyword, inner=nn.Linear(6, 8), head=nn.Linear(8, C)), 6)


@case(piecewise_linear=True)
def outputs_written_in_place() -> Problem:
    return classifier(Forward(networks.written_in_place, inner=nn.Linear(6, 8), head=nn.Linear(8, C)), 6)


@case(piecewise_linear=True)
def frozen_first_layer() -> Problem:
    problem = classifier(nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, C)), 6)
    problem.model[0].requires_grad_(False)
    return problem


@case(piecewise_linear=True)
def unused_parameters() -> Problem:
    modules = {"inner": nn.Linear(6, 8), "unused": nn.Linear(4, 4), "head": nn.Linear(8, C)}
    return classifier(Forward(networks.functional_relu, **modules), 6)


@case()
def raw_products() -> Problem:
    modules = {
        "A": nn.Parameter(torch.randn(5, 7) / 2),
        "a": nn.Parameter(torch.zeros(7)),
        "B": nn.Parameter(torch.randn(2, 7, 7) / 2),
        "gain": nn.Parameter(torch.ones(7)),
        "W": nn.Parameter(torch.randn(7, C)),
    }
    return classifier(Forward(networks.raw_products, **modules), 5)
