"""The diffusion transformer: its size, any horizon, what its output depends on, and its start."""

import torch

from dmemm.models.dit import PlanDit


def filled(transition_dim=6, width=32, blocks=2):
    """A network whose zeros have become numbers, as training would make them."""
    torch.manual_seed(0)
    network = PlanDit(transition_dim, width, blocks)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_size_and_start_at_zero():
    network = PlanDit(11, 256, 2)
    block = [(256, 768), (256, 256), (256, 1024), (1024, 256), (256, 1536)]
    linear = [(256, 256), (256, 256), (11, 256), *block * 2, (256, 512), (256, 11)]
    assert sum(p.numel() for p in network.parameters()) == sum(i * o + o for i, o in linear)
    assert (network(torch.randn(3, 4, 11), torch.arange(3)) == 0).all()


def test_plans_of_a_batch_do_not_mix_and_the_step_every_entry_and_its_place_matter():
    network, tau = filled(), torch.randn(3, 5, 6)
    together = network(tau, torch.tensor([1, 5, 9]))
    assert together.shape == tau.shape
    torch.testing.assert_close(network(tau[1:2], torch.tensor([5])), together[1:2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(tau[1:2], torch.tensor([6])), together[1:2], atol=1e-3)
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x, torch.tensor([5])), tau[1:2])
    assert (jacobian[0, :, :, 0] != 0).all()
    swapped = network(tau[1:2, [1, 0, 2, 3, 4]], torch.tensor([5]))
    assert not torch.allclose(swapped[:, [1, 0, 2, 3, 4]], together[1:2], atol=1e-3)
