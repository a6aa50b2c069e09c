"""The residual MLP: its size, its one horizon, what its output depends on, and that it learns."""

import pytest
import torch

from dmemm.diffusion.model import DiffusionModel
from dmemm.errors import UserError
from dmemm.models.mlp import PlanMlp

HEADER = {
    "data": "",
    "action_dim": 2,
    "observation_dim": 4,
    "horizon": 8,
    "end_dim": 4,
    "predict": "sample",
    "diffusion_steps": 4,
}


def test_size_shape_and_horizon():
    network = PlanMlp(8, 14, 10, 256, 3)
    linear = [(112, 256), (256, 256), (256, 256), *[(256, 512), (512, 256)] * 3, (256, 112)]
    expected = sum(fan_in * fan_out + fan_out for fan_in, fan_out in linear) + 3 * 2 * 256
    assert sum(p.numel() for p in network.parameters()) == expected
    assert network(torch.randn(5, 8, 14), torch.arange(5)).shape == (5, 8, 14)
    with pytest.raises(UserError, match="plans of 9 steps: the network is for 8"):
        network(torch.randn(5, 9, 14), torch.arange(5))


def test_plans_of_a_batch_do_not_mix_and_the_step_and_every_entry_matter():
    torch.manual_seed(0)
    network, tau = PlanMlp(8, 6, 10, 32, 3), torch.randn(3, 8, 6)
    together = network(tau, torch.tensor([1, 5, 9]))
    torch.testing.assert_close(network(tau[1:2], torch.tensor([5])), together[1:2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(tau[1:2], torch.tensor([6])), together[1:2], atol=1e-3)
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x, torch.tensor([5])), tau[1:2])
    assert (jacobian[0, :, :, 0] != 0).all()


def test_it_learns_a_few_plans_by_heart():
    torch.manual_seed(0)
    network, tau, wanted = PlanMlp(8, 6, 16, 64, 2), torch.randn(16, 8, 6), torch.randn(16, 8, 6)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        (loss := (network(tau, torch.arange(16)) - wanted).square().mean()).backward()
        optimiser.step()
    assert loss.item() < 0.01


@pytest.mark.parametrize(
    "network",
    [
        {"network": "mlp", "mlp_width": 32, "mlp_blocks": 2},
        {"network": "unet", "unet_width": 8, "unet_mults": [1, 2]},
    ],
)
def test_a_header_rebuilds_either_network(network, tmp_path):
    torch.manual_seed(0)
    model = DiffusionModel(HEADER | network, torch.device("cpu"))
    model.low.fill_(-9)
    model.high.fill_(9)
    model.save(tmp_path / "model.safetensors")
    again = DiffusionModel.load(tmp_path / "model.safetensors", torch.device("cpu"))
    tau, k = torch.randn(3, 8, 6), torch.tensor([0, 1, 3])
    torch.testing.assert_close(again.estimate(tau, k, tau), model.estimate(tau, k, tau), rtol=1e-4, atol=1e-5)


def test_its_copy_in_bfloat16_gives_its_plans_to_two_digits():
    torch.manual_seed(0)
    network, tau, k = PlanMlp(8, 6, 10, 256, 3), torch.randn(40, 8, 6), torch.arange(40) % 10
    copied = network.in_bfloat16()
    plans, rounded = network(tau, k), copied(tau, k)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, rounded.bfloat16().float())  # the last product is not rounded
    assert not torch.equal(rounded, plans)
    torch.testing.assert_close(rounded, plans, rtol=0, atol=0.02 * plans.abs().max().item())
    assert network.first.weight.dtype == torch.float32


@pytest.mark.parametrize("width", [256, 32])
def test_only_a_large_network_plans_in_bfloat16_and_only_for_many_plans(width, monkeypatch):
    monkeypatch.setattr("dmemm.device._has_bfloat16", lambda: True)
    torch.manual_seed(0)
    model = DiffusionModel(HEADER | {"network": "mlp", "mlp_width": width, "mlp_blocks": 3}, torch.device("cpu"))
    model.low.fill_(-9)
    model.high.fill_(9)
    tau, k = torch.randn(40, 8, 6), torch.arange(40) % 4
    before = model.requires_grad_(False).eval().estimate(tau, k, tau)
    model.make_fast()
    few = torch.cat([model.estimate(tau[i : i + 20], k[i : i + 20], tau[i : i + 20]) for i in (0, 20)])
    torch.testing.assert_close(few, before, rtol=1e-5, atol=1e-5)
    if width == 256:
        assert not torch.allclose(model.estimate(tau, k, tau), before, rtol=1e-5, atol=1e-5)
    else:
        torch.testing.assert_close(model.estimate(tau, k, tau), before, rtol=1e-5, atol=1e-5)
