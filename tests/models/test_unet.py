"""The temporal U-Net: Diffuser's parameter counts, any horizon, locality in the batch."""

import pytest
import torch
from torch.nn import functional

from dmemm.models.kernels import _MishFunction
from dmemm.models.unet import TemporalUnet


@pytest.mark.parametrize(
    ("dim", "mults", "parameters"),
    [(14, (1, 2, 4, 8), 3_956_302), (23, (1, 2, 4, 8), 3_958_327), (6, (1, 4, 8), 3_682_118)],
)
def test_parameter_counts_are_diffusers(dim, mults, parameters):
    assert sum(p.numel() for p in TemporalUnet(dim, 32, mults).parameters()) == parameters


@pytest.mark.parametrize("horizon", [4, 5, 7, 100, 101, 384, 400])
def test_any_horizon_keeps_its_length(horizon):
    network = TemporalUnet(6, 8, (1, 2, 4, 8))
    assert network(torch.randn(2, horizon, 6), torch.tensor([0, 3])).shape == (2, horizon, 6)


def test_plans_of_a_batch_do_not_mix_and_the_step_matters():
    torch.manual_seed(0)
    network, tau = TemporalUnet(6, 8, (1, 2)), torch.randn(3, 10, 6)
    together = network(tau, torch.tensor([1, 5, 9]))
    torch.testing.assert_close(network(tau[1:2], torch.tensor([5])), together[1:2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(tau[1:2], torch.tensor([6])), together[1:2], atol=1e-4)


def test_mish_and_its_gradient_are_pytorchs():
    x = torch.tensor([0.0, -1e4, 1e4, *torch.linspace(-90, 90, 1001)], dtype=torch.float64, requires_grad=True)
    ours = _MishFunction.apply(x)
    torch.testing.assert_close(ours, functional.mish(x))
    gradients = [torch.autograd.grad(y.sum(), x)[0] for y in (ours, functional.mish(x))]
    torch.testing.assert_close(*gradients)
    narrow = x.detach().bfloat16()
    torch.testing.assert_close(_MishFunction.apply(narrow), functional.mish(narrow))


@pytest.mark.parametrize("horizon", [4, 33])
@pytest.mark.parametrize("few", [1, 3])
def test_few_plans_are_planned_as_in_a_batch_also_after_new_weights(few, horizon):
    torch.manual_seed(0)
    network, tau = TemporalUnet(6, 32, (1, 2, 4)).requires_grad_(False), torch.randn(9, horizon, 6)
    k = torch.full((9,), 3)
    for _ in range(2):
        torch.testing.assert_close(network(tau[:few], k[:few]), network(tau, k)[:few], rtol=1e-4, atol=1e-5)
        network.load_state_dict(TemporalUnet(6, 32, (1, 2, 4)).state_dict())
