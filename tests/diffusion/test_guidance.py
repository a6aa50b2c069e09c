"""Eq. 13's gradient and the guided reverse process."""

import torch

from dmemm.diffusion.guidance import Guide, sample_plans
from dmemm.diffusion.model import DiffusionModel
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel


def guide(dtype=torch.float64, lambda_guide=0.3):
    torch.manual_seed(0)
    dynamics = DynamicsEnsemble(3, 2, 4, 16).to(dtype).requires_grad_(False)
    dynamics.target_scale.fill_(0.5)
    return Guide(2, RewardModel(3, 2, 1, 16).to(dtype).requires_grad_(False), dynamics, lambda_guide)


def test_gradient_agrees_with_finite_differences():
    j = guide()
    tau = torch.randn(2, 4, 5, dtype=torch.float64)
    gradient, h = j.gradient(tau), 1e-6
    for index in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(5)).tolist():
        up, down = tau.clone(), tau.clone()
        up[tuple(index)] += h
        down[tuple(index)] -= h
        numeric = (j.objective(up).sum() - j.objective(down).sum()) / (2 * h)
        torch.testing.assert_close(gradient[tuple(index)], numeric, rtol=1e-5, atol=1e-6)


def test_log_likelihood_is_the_mixture_of_normal_densities():
    j = guide()
    s, a, s_next = (torch.randn(7, n, dtype=torch.float64) for n in (3, 2, 3))
    mean, log_variance = j.dynamics._gaussians(s, a)
    members = []
    for m in range(4):
        normal = torch.distributions.Normal(s + 0.5 * mean[m], 0.5 * (0.5 * log_variance[m]).exp())
        members.append(normal.log_prob(s_next).sum(-1).exp())
    torch.testing.assert_close(j.dynamics.log_likelihood(s, a, s_next), (sum(members) / 4).log())


def diffusion_model(goal):
    torch.manual_seed(1)
    header = {"action_dim": 2, "observation_dim": 3, "horizon": 6, "end_dim": 3 if goal else 0, "predict": "sample"}
    model = DiffusionModel({**header, "unet_width": 8, "unet_mults": (1, 2), "diffusion_steps": 5}, torch.device("cpu"))
    model.low.fill_(-2)
    model.high.fill_(2)
    return model.requires_grad_(False)


def draw(model, j, alpha, values):
    return sample_plans(model, j, values, alpha, 0, torch.Generator().manual_seed(4))


def test_first_state_and_goal_are_exactly_what_was_given():
    model, values = diffusion_model(goal=True), torch.randn(8, 6, 5)
    tau = draw(model, guide(torch.float32), 0.1, values)
    assert torch.equal(tau[:, 0, 2:], values[:, 0, 2:])
    assert torch.equal(tau[:, -1, 2:], values[:, -1, 2:])
    assert not torch.isclose(tau[:, 1:-1], values[:, 1:-1]).any()


def test_guidance_raises_its_objective_and_alpha_zero_does_nothing():
    model, j, values = diffusion_model(goal=False), guide(torch.float32, 0.01), torch.zeros(64, 6, 5)
    unguided = draw(model, j, 0.0, values)
    assert torch.equal(unguided, draw(model, Guide(2, None, None, 0.0), 1.0, values))
    guided = draw(model, j, 1.0, values)
    assert j.objective(guided).mean() > j.objective(unguided).mean()
