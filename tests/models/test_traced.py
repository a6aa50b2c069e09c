"""Traced networks: the network's own numbers, for any number of plans, without running the network's Python."""

import pytest
import torch

from dmemm.models import traced as module
from dmemm.models.mlp import PlanMlp
from dmemm.models.traced import Traced
from dmemm.models.unet import TemporalUnet


@pytest.mark.parametrize(("kind", "horizon", "width"), [("unet", 7, 8), ("unet", 128, 32), ("mlp", 8, 32)])
def test_a_traced_network_gives_what_the_network_gives_for_any_number_of_plans(kind, horizon, width, monkeypatch):
    monkeypatch.setattr(module, "_WORTH", 3)
    torch.manual_seed(0)
    network = TemporalUnet(6, width, (1, 2)) if kind == "unet" else PlanMlp(horizon, 6, 10, width, 3)
    network.requires_grad_(False).eval()
    plans, k = torch.randn(17, horizon, 6), torch.arange(17) % 10
    traced, ran = Traced(network), []
    for count in (1, 5, 17):
        for _ in range(3):
            before = traced(plans[:count], k[:count])
    expected = [
        (count, shift, network(plans[:count] + shift, k[:count])) for count in (1, 4, 5, 7, 17) for shift in (0, 1)
    ]
    network.register_forward_hook(lambda *_: ran.append(True))
    for count, shift, wanted in expected:
        torch.testing.assert_close(traced(plans[:count] + shift, k[:count]), wanted, rtol=1e-4, atol=1e-5)
    assert not ran
    torch.testing.assert_close(traced(plans, k), before, rtol=0, atol=0)  # the same bits as before it was traced
