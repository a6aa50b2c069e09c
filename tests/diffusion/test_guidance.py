"""Eq. 13's gradient and the guided reverse process."""

from dataclasses import replace

import pytest
import torch

from dmemm.diffusion.guidance import Guide, sample_plans
from dmemm.diffusion.model import DiffusionModel
from dmemm.diffusion.outcome import Outcome
from dmemm.diffusion.process import Process
from dmemm.methods.levels import PLANNING
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel

UNET = {"network": "unet", "unet_width": 8, "unet_mults": (1, 2)}


def guide(dtype=torch.float64, lambda_guide=0.3):
    torch.manual_seed(0)
    dynamics = DynamicsEnsemble(3, 2, 4, 16).to(dtype).requires_grad_(False)
    dynamics.target_scale.fill_(0.5)
    reward = RewardModel(3, 2, 1, 16).to(dtype).requires_grad_(False)
    return Guide(2, Outcome("reward", reward, None), dynamics, lambda_guide)


def test_gradient_agrees_with_finite_differences():
    j = guide()
    tau = torch.randn(2, 4, 5, dtype=torch.float64)
    gradient, h = j.gradient(tau, tau, torch.zeros(2)), 1e-6
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
    model = DiffusionModel({**header, **UNET, "diffusion_steps": 5}, torch.device("cpu"))
    model.low.fill_(-2)
    model.high.fill_(2)
    return model.requires_grad_(False)


def config(**changes):
    return replace(PLANNING, **{"t_stopgrad": 0} | changes)


def draw(model, j, alpha, values):
    return sample_plans(model, j, values, config(alpha=alpha), torch.Generator().manual_seed(4))


def test_first_state_and_goal_are_exactly_what_was_given():
    model, values = diffusion_model(goal=True), torch.randn(8, 6, 5)
    tau = draw(model, guide(torch.float32), 0.1, values)
    assert torch.equal(tau[:, 0, 2:], values[:, 0, 2:])
    assert torch.equal(tau[:, -1, 2:], values[:, -1, 2:])
    assert not torch.isclose(tau[:, 1:-1], values[:, 1:-1]).any()


def test_guidance_raises_its_objective_and_alpha_zero_does_nothing():
    model, j, values = diffusion_model(goal=False), guide(torch.float32, 0.01), torch.zeros(64, 6, 5)
    unguided = draw(model, j, 0.0, values)
    assert torch.equal(unguided, draw(model, Guide(2), 1.0, values))
    guided = draw(model, j, 1.0, values)
    assert j.objective(guided).mean() > j.objective(unguided).mean()


@pytest.mark.parametrize("alpha", [0.3, 30.0])
def test_each_guided_step_is_that_of_algorithm_1(alpha):
    """Eqs. 3, 4 and 13, plan by plan, from the plans of the level above; two levels without guidance."""
    model, j, values = diffusion_model(goal=True), guide(torch.float32, 0.01), torch.randn(3, 6, 5)
    seen, largest = [], 0.0
    sample_plans(model, j, values, config(alpha=alpha, t_stopgrad=2), seeded(), trace=seen.append)
    generator, known = seeded(), model.conditioning.known
    torch.testing.assert_close(seen[0], torch.where(known, values, torch.randn(values.shape, generator=generator)))
    bar = [1.0, *model.process.alphas_cumprod.tolist()]
    for level, tau, below in zip(range(4, -1, -1), seen, seen[1:], strict=False):
        noise = torch.randn(values.shape, generator=generator) if level > 0 else torch.zeros(values.shape)
        now, before = bar[level + 1], bar[level]
        beta = 1 - now / before
        sigma = (beta * (1 - before) / (1 - now)) ** 0.5
        for n in range(3):
            clean = model.estimate(tau[n : n + 1], torch.tensor([level]), values[n : n + 1]).requires_grad_()
            (slope,) = torch.autograd.grad(j.objective(clean).sum(), clean)
            mean = before**0.5 * beta * clean.detach() + (now / before) ** 0.5 * (1 - before) * tau[n]
            mean = mean / (1 - now)
            if level >= 2:
                moved = alpha * sigma**2 * slope
                largest = max(largest, float(moved.abs().max()) / sigma)
                mean = mean + moved.clamp(-sigma, sigma)
            expected = torch.where(known, values[n], mean[0] + sigma * noise[n])
            torch.testing.assert_close(below[n], expected, rtol=1e-3, atol=1e-4)
    assert (largest > 1) == (alpha == 30)  # where no entry may move by more than the deviation


def test_the_jump_between_adjacent_levels_is_the_ancestral_one():
    process = Process(20, dtype=torch.float64)
    jumps = torch.stack([process.jump_sigma(k, k - 1) for k in range(20)])
    torch.testing.assert_close(jumps, process.sigmas)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_ddim_is_the_loop_of_its_paper(steps):
    """Song et al. (2021), eq. 12 with η = 0, level by level and plan by plan."""
    model, values = diffusion_model(goal=True), torch.randn(3, 6, 5)
    found = sample_plans(model, guide(torch.float32), values, config(sampling_steps=steps), seeded())
    noise = torch.randn(values.shape, generator=seeded())
    bar = model.process.alphas_cumprod.double()
    levels = {1: [4], 2: [4, 0], 4: [4, 3, 1, 0]}[steps]
    for n in range(3):
        known = model.conditioning.known
        tau = torch.where(known, values[n], noise[n]).double()
        for level, below in zip(levels, [*levels[1:], None], strict=True):
            x0 = model.estimate(tau[None].float(), torch.tensor([level]), values[n : n + 1])[0].double()
            eps = (tau - bar[level].sqrt() * x0) / (1 - bar[level]).sqrt()
            tau = x0 if below is None else bar[below].sqrt() * x0 + (1 - bar[below]).sqrt() * eps
            tau = torch.where(known, values[n].double(), tau)
        torch.testing.assert_close(found[n].double(), tau, rtol=1e-4, atol=1e-4)


def seeded():
    return torch.Generator().manual_seed(4)


def test_a_warm_start_stays_near_the_plan_it_starts_from():
    torch.manual_seed(0)
    model, values, j = diffusion_model(goal=False), torch.zeros(64, 6, 5), Guide(2)
    first = sample_plans(model, j, values, config(), seeded())
    calls = []
    estimate, model.estimate = model.estimate, lambda *x: (calls.append(x), estimate(*x))[1]
    warm = sample_plans(model, j, values, config(warm_start=2), seeded(), previous=first)
    assert len(calls) == 2  # of 5 levels
    noisy = model.process.q_sample(first, torch.tensor(1), torch.randn(first.shape, generator=seeded()))
    torch.testing.assert_close(calls[0][0], model.conditioning.apply(noisy, values))
    assert torch.equal(warm[:, 0, 2:], values[:, 0, 2:])


@pytest.mark.parametrize("warm_start", [1, 2, 3, 4])
def test_ddim_stays_deterministic_under_a_warm_start_of_few_levels(warm_start):
    model, values = diffusion_model(goal=False), torch.zeros(3, 6, 5)
    first, seen, draws = torch.randn(3, 6, 5), [], []
    generator, trace = seeded(), lambda tau: (seen.append(tau), draws.append(generator.get_state()))
    found = sample_plans(
        model, Guide(2), values, config(sampling_steps=3, warm_start=warm_start), generator, first, trace
    )
    assert len(seen) == 1 + min(3, warm_start)
    assert all(torch.equal(state, draws[0]) for state in draws)  # no noise but that of the start
    bar, tau = model.process.alphas_cumprod.double(), seen[0].double()
    levels = {1: [0], 2: [1, 0], 3: [2, 1, 0], 4: [3, 2, 0]}[warm_start]
    for level, below in zip(levels, [*levels[1:], None], strict=True):
        x0 = model.estimate(tau.float(), torch.full((3,), level), values).double()
        eps = (tau - bar[level].sqrt() * x0) / (1 - bar[level]).sqrt()
        tau = x0 if below is None else bar[below].sqrt() * x0 + (1 - bar[below]).sqrt() * eps
        tau = model.conditioning.apply(tau, values.double())
    torch.testing.assert_close(found.double(), tau, rtol=1e-3, atol=1e-3)
