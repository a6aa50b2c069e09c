"""Eqs. 9 to 12 against literal loops in float64, masks, conditioning, and the variants' terms."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from dmemm.data.windows import Batch
from dmemm.diffusion.model import DiffusionModel
from dmemm.diffusion.objective import Objective, reward_loss, transition_loss
from dmemm.diffusion.process import Process
from dmemm.methods.levels import TRAINING
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel

ACTION, OBSERVATION, HORIZON = 2, 3, 5
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def config(**changed):
    values = {"lambda_tr": 0.1, "lambda_rd": 0.05, "reward_loss": True, "weighting": True, "diffusion_steps": 6}
    values |= {"mlp_width": 8, "mlp_blocks": 1, "unet_width": 8, "unet_mults": (1, 2)}
    values |= {"train_steps": 2, "batch_size": 12, "ema_decay": 0.9}
    return replace(TRAINING, **values | changed)


def build(cfg, goal=False):
    torch.manual_seed(0)
    header = {
        "action_dim": ACTION,
        "observation_dim": OBSERVATION,
        "horizon": HORIZON,
        "end_dim": OBSERVATION if goal else 0,
    }
    model = DiffusionModel({**vars(cfg), **header}, CPU)
    model.process = Process(cfg.diffusion_steps, dtype=torch.float64)
    dynamics = DynamicsEnsemble(OBSERVATION, ACTION, 3, 16).requires_grad_(False)
    reward = RewardModel(OBSERVATION, ACTION, 1, 16).requires_grad_(False)
    return Objective(cfg, model, dynamics if cfg.lambda_tr else None, reward if cfg.lambda_rd else None)


def batch(count, lengths=None):
    generator = torch.Generator().manual_seed(3)
    tau = torch.randn(count, HORIZON, ACTION + OBSERVATION, generator=generator)
    mask = torch.arange(HORIZON) < (
        torch.full((count, 1), HORIZON) if lengths is None else torch.tensor(lengths)[:, None]
    )
    return Batch(tau, mask, mask, torch.rand(count, generator=generator) * 0.9 + 0.1)


def test_transition_and_reward_losses_are_the_sums_of_eqs_9_and_10():
    objective, plans = build(config()), batch(3, [5, 3, 1])
    measured = transition_loss(plans.tau, plans.mask, ACTION, objective.dynamics)
    rewards = reward_loss(plans.tau, plans.mask, ACTION, objective.reward)
    for row in range(3):
        expected_tr, expected_rd = 0.0, 0.0
        for t in range(HORIZON):
            a, s = plans.tau[row, t, :ACTION], plans.tau[row, t, ACTION:]
            if plans.mask[row, t]:
                expected_rd -= objective.reward(s, a).item()
            if t + 1 < HORIZON and plans.mask[row, t + 1]:
                members = [s + objective.dynamics.outputs(s[None], a[None])[m, 0, :OBSERVATION] for m in range(3)]
                expected_tr += (plans.tau[row, t + 1, ACTION:] - sum(members) / 3).square().sum().item()
        assert measured[row].item() == pytest.approx(expected_tr, rel=1e-10)
        assert rewards[row].item() == pytest.approx(expected_rd, rel=1e-10)


def test_total_is_eq_12():
    objective = build(config(lambda_tr=0.3, lambda_rd=0.7))
    terms = objective.terms(batch(12), torch.Generator().manual_seed(0))
    assert terms["total"].item() == pytest.approx((terms["wdiff"] + 0.3 * terms["tr"] + 0.7 * terms["rd"]).item())


@pytest.mark.parametrize("predict", ["sample", "epsilon"])
def test_weighted_diffusion_loss_is_eq_11(predict):
    objective = build(config(lambda_tr=0.0, lambda_rd=0.0, predict=predict, first_action_weight=4.0))
    plans = batch(12, [5] * 6 + [2] * 6)
    terms = objective.terms(plans, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(12, 1, HORIZON, ACTION + OBSERVATION, generator=generator)[:, 0]
    k = torch.randint(6, (12, 1), generator=generator)[:, 0]
    total, process = 0.0, objective.model.process
    for row in range(12):
        signal = process.alphas_cumprod[k[row]]
        tau = signal.sqrt() * plans.tau[row] + (1 - signal).sqrt() * noise[row]
        tau[0, ACTION:] = plans.tau[row, 0, ACTION:]
        output = objective.model.network(tau[None], k[row : row + 1])[0]
        error = (output - (plans.tau[row] if predict == "sample" else noise[row])) ** 2
        error[0, :ACTION] *= 4
        error[0, ACTION:] = 0
        total += plans.weight[row] * error[: 5 if row < 6 else 2].sum()
    assert set(terms) == {"total", "wdiff"}
    assert terms["wdiff"].item() == pytest.approx(total.item() / 12 / (HORIZON * (ACTION + OBSERVATION)), rel=1e-10)


def test_padding_has_no_influence():
    objective = build(config())
    plans = batch(12, [3] * 12)
    changed = Batch(plans.tau.clone(), plans.mask, plans.learned, plans.weight)

    def losses(b):
        # The network sees the padding, as it sees every entry; the losses' own terms must not.
        return (
            transition_loss(b.tau, b.mask, ACTION, objective.dynamics).sum()
            + reward_loss(b.tau, b.mask, ACTION, objective.reward).sum()
        )

    before = losses(plans)
    changed.tau[:, 3:] = 100.0
    assert torch.equal(before, losses(changed))


@pytest.mark.parametrize("size", [4, 12, 16])
@pytest.mark.parametrize("denoise", ["paper", "ddim", "tweedie"])
@pytest.mark.parametrize("predict", ["sample", "epsilon"])
def test_every_estimator_trains_with_as_many_network_evaluations(denoise, predict, size):
    objective = build(config(denoise=denoise, predict=predict, modulation_weight="snr", batch_size=size))
    evaluated = []
    network = objective.model.network.forward
    objective.model.network.forward = lambda tau, k: evaluated.extend(k.tolist()) or network(tau, k)
    assert objective.plans_per_step == (size if denoise == "tweedie" else {4: 1, 12: 2, 16: 3}[size])
    terms = objective.terms(batch(objective.plans_per_step), torch.Generator().manual_seed(0))
    assert len(evaluated) == size
    if denoise != "tweedie":  # each plan at all six levels, the last one at some of them, no level twice
        levels = [evaluated[start : start + 6] for start in range(0, size, 6)]
        assert all(plan == list(range(6)) for plan in levels[:-1])
        assert levels[-1] == sorted(set(levels[-1])) and len(levels[-1]) == (size - 1) % 6 + 1
    terms["total"].backward()
    assert all(torch.isfinite(value) for value in terms.values())
    gradients = [p.grad for p in objective.model.network.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(g).all() for g in gradients)


def test_known_entries_are_never_noised():
    objective = build(config(), goal=True)
    seen = []
    network = objective.model.network.forward
    objective.model.network.forward = lambda tau, k: seen.append(tau) or network(tau, k)
    plans = batch(12)
    objective.terms(plans, torch.Generator().manual_seed(0))
    for t in (0, HORIZON - 1):
        assert torch.equal(seen[0][:, t, ACTION:], plans.tau[:, t, ACTION:])
        assert not torch.isclose(seen[0][:, t, :ACTION], plans.tau[:, t, :ACTION]).any()


def literal_estimate(objective, tau0, noise, level, known, levels=range(6)):
    """Eq. 8 (or its ddim form, or one step) for one plan and one k, over some levels, a network call at a time."""
    cfg, network = objective.config, objective.model.network
    cumprod = objective.model.process.alphas_cumprod.tolist()

    def predicted_noise(i):
        tau = math.sqrt(cumprod[i]) * tau0 + math.sqrt(1 - cumprod[i]) * noise
        tau[known] = tau0[known]
        output = network(tau[None], torch.tensor([i]))[0]
        if cfg.predict == "epsilon":
            return output
        return (tau - math.sqrt(cumprod[i]) * output) / math.sqrt(1 - cumprod[i])

    def ratio(i):
        return math.sqrt((1 - cumprod[i]) / cumprod[i])

    if cfg.denoise == "tweedie":
        tau = math.sqrt(cumprod[level]) * tau0 + math.sqrt(1 - cumprod[level]) * noise
        tau[known] = tau0[known]
        estimate = (tau - math.sqrt(1 - cumprod[level]) * predicted_noise(level)) / math.sqrt(cumprod[level])
    else:
        estimate = tau0 + ratio(level) * noise
        for below, i in pairwise([None, *[i for i in levels if i <= level]]):
            if cfg.denoise == "paper":
                alpha = cumprod[i] / (1.0 if below is None else cumprod[below])
                c = (1 - alpha) / math.sqrt((1 - cumprod[i]) * cumprod[i])
            else:
                c = ratio(i) - (0.0 if below is None else ratio(below))
            estimate = estimate - c * predicted_noise(i)
    estimate[known] = tau0[known]
    return estimate


@pytest.mark.parametrize("modulation_weight", ["uniform", "snr"])
@pytest.mark.parametrize("predict", ["sample", "epsilon"])
@pytest.mark.parametrize("denoise", ["paper", "ddim", "tweedie"])
def test_modulation_losses_are_those_of_plans_denoised_one_call_at_a_time(denoise, predict, modulation_weight):
    cfg = config(
        denoise=denoise, predict=predict, modulation_weight=modulation_weight, lambda_tr=0.3, lambda_rd=0.7,
        batch_size=3 if denoise == "tweedie" else 15,
    )  # fmt: skip
    objective, plans = build(cfg, goal=True), batch(3, [5, 4, 2])
    terms = objective.terms(plans, torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(9)
    noise = torch.randn(3, 1, HORIZON, ACTION + OBSERVATION, generator=generator)[:, 0]
    if denoise == "tweedie":
        drawn = [[level] for level in torch.randint(6, (3,), generator=generator).tolist()]
    else:  # 15 evaluations: two plans have all levels, three are left for the last one
        drawn = [range(6), range(6), sorted(torch.randperm(6, generator=generator)[:3].tolist())]
    member = torch.randint(3, (1,), generator=generator)
    known = objective.model.conditioning.known
    tr, rd, count = 0.0, 0.0, 0
    for row in range(3):
        for level in drawn[row]:
            estimate = literal_estimate(objective, plans.tau[row], noise[row], level, known, drawn[row])
            a, s = estimate[:, :ACTION], estimate[:, ACTION:]
            weight = objective.model.process.alphas_cumprod[level].item() if modulation_weight == "snr" else 1.0
            for t in range(HORIZON):
                if plans.mask[row, t]:
                    rd -= weight * objective.reward(s[t], a[t]).item()
                if t + 1 < HORIZON and plans.mask[row, t + 1]:
                    tr += weight * (s[t + 1] - objective.dynamics(s[t], a[t], member)).square().sum().item()
            count += HORIZON * (ACTION + OBSERVATION)
    assert terms["tr"].item() == pytest.approx(tr / count, rel=1e-8)
    assert terms["rd"].item() == pytest.approx(rd / count, rel=1e-8)
    total = terms["wdiff"] + 0.3 * terms["tr"] + 0.7 * terms["rd"]
    assert terms["total"].item() == pytest.approx(total.item(), rel=1e-12)


@pytest.mark.parametrize("denoise", ["tweedie", "ddim"])
def test_mixed_precision_is_the_same_loss_to_three_digits(denoise, monkeypatch):
    """In bfloat16 (emulated where the CPU lacks it): every term, the gradients' direction, and float32 results."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr("dmemm.device._has_bfloat16", lambda: True)
    objective = build(config(denoise=denoise, unet_width=16, batch_size=32 if denoise == "tweedie" else 192))
    objective.model.process = Process(6)
    plans = batch(32)

    def measured(large):
        monkeypatch.setattr("dmemm.device.LARGE", large)
        terms = objective.terms(plans, torch.Generator().manual_seed(1))
        gradients = torch.autograd.grad(terms["total"], list(objective.model.network.parameters()))
        return terms, torch.cat([gradient.flatten() for gradient in gradients])

    (full, direction), (mixed, other) = measured(10**9), measured(0)
    assert all(value.dtype == torch.float32 for value in mixed.values())
    assert any(not torch.equal(full[name], mixed[name]) for name in full)  # it is another precision
    for name in full:
        torch.testing.assert_close(mixed[name], full[name], rtol=2e-2, atol=2e-3)
    assert torch.cosine_similarity(direction, other, dim=0) > 0.99


def test_each_gradient_step_asks_one_member_of_the_ensemble():
    objective, plans = build(config(lambda_rd=0.0)), batch(12, [5] * 6 + [3] * 6)
    dynamics, s, a = objective.dynamics, plans.tau[..., ACTION:], plans.tau[..., :ACTION]
    happened = plans.mask[:, 1:] & plans.mask[:, :-1]

    def alone(member):
        """Eq. 9 by the member's own layers."""
        x = torch.cat([s, a], dim=-1)[:, :-1]
        for layer, (w, b) in enumerate(zip(dynamics.network.weights, dynamics.network.biases, strict=True)):
            x = x @ w[member] + b[member]
            x = x * torch.sigmoid(x) if layer < 2 else x
        predicted = s[:, :-1] + x[..., :OBSERVATION] * dynamics.target_scale + dynamics.target_mean
        return ((s[:, 1:] - predicted).square().sum(dim=-1) * happened).sum(dim=-1), predicted

    dynamics.target_mean.normal_(), dynamics.target_scale.uniform_(0.5, 2)
    losses, predictions = zip(*(alone(member) for member in range(3)), strict=True)
    for member, loss in enumerate(losses):
        asked = transition_loss(plans.tau, plans.mask, ACTION, dynamics, torch.tensor([member]))
        torch.testing.assert_close(asked, loss)
    variance = torch.stack(predictions).var(dim=0, correction=0).sum(dim=-1)
    mean = transition_loss(plans.tau, plans.mask, ACTION, dynamics) + (variance * happened).sum(dim=-1)
    torch.testing.assert_close(torch.stack(losses).mean(dim=0), mean)

    asked, forward = [], dynamics.forward
    dynamics.forward = lambda s, a, member: asked.append(int(member)) or forward(s, a, member)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        objective.terms(plans, generator)
    assert set(asked) == {0, 1, 2}
