"""Eqs. 2, 3, 4 and proposition 1 against literal loops in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmemm.diffusion.denoise import denoise_chain
from dmemm.diffusion.process import Process

F64 = torch.float64


def literal_schedule(steps):
    def f(t):
        return math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - f(t + 1) / f(t), 0.999) for t in range(steps)]
    cumprod, product = [], 1.0
    for beta in betas:
        product *= 1 - beta
        cumprod.append(product)
    return betas, cumprod


@given(steps=st.integers(2, 200))
@settings(max_examples=20, deadline=None)
def test_schedule_is_the_cosine_one(steps):
    process = Process(steps, dtype=F64)
    betas, cumprod = literal_schedule(steps)
    assert process.betas.tolist() == pytest.approx(betas, rel=1e-9)
    assert process.alphas_cumprod.tolist() == pytest.approx(cumprod, rel=1e-9)
    assert process.sigmas[0] == 0


def test_noise_of_the_last_level_as_the_method_notes_say():
    assert Process(100, dtype=F64).noise_ratio[-1].item() == pytest.approx(2029, rel=1e-3)
    assert Process(20, dtype=F64).noise_ratio[-1].item() == pytest.approx(406, rel=2e-3)


def test_forward_and_reverse_agree_with_eqs_2_and_4():
    torch.manual_seed(0)
    process = Process(20, dtype=F64)
    betas, cumprod = literal_schedule(20)
    tau0, noise, k = torch.randn(5, 3, 2, dtype=F64), torch.randn(5, 3, 2, dtype=F64), torch.tensor([0, 3, 7, 12, 19])
    tau = process.q_sample(tau0, k, noise)
    mean = process.reverse_mean(tau, k, noise)
    for row, level in enumerate(k.tolist()):
        expected = math.sqrt(cumprod[level]) * tau0[row] + math.sqrt(1 - cumprod[level]) * noise[row]
        torch.testing.assert_close(tau[row], expected)
        coefficient = betas[level] / math.sqrt(1 - cumprod[level])
        torch.testing.assert_close(mean[row], (expected - coefficient * noise[row]) / math.sqrt(1 - betas[level]))
    torch.testing.assert_close(process.sample_from_noise(tau, k, noise), tau0)
    torch.testing.assert_close(process.noise_from_sample(tau, k, tau0), noise)


@pytest.mark.parametrize("levels", [None, [0, 3, 4, 9], [7]])
@pytest.mark.parametrize("estimator", ["paper", "ddim"])
def test_chain_agrees_with_the_double_loop_of_eq_8(estimator, levels):
    torch.manual_seed(1)
    steps = 12
    process = Process(steps, dtype=F64)
    _, cumprod = literal_schedule(steps)
    chosen = None if levels is None else torch.tensor(levels)
    cumprod = [cumprod[k] for k in levels or range(steps)]
    steps = len(cumprod)
    tau0, noise = torch.randn(2, 4, 3, dtype=F64), torch.randn(2, 4, 3, dtype=F64)
    predicted = torch.randn(2, steps, 4, 3, dtype=F64)
    denoised = denoise_chain(process, tau0, noise, predicted, estimator, chosen)

    def ratio(k):
        return math.sqrt((1 - cumprod[k]) / cumprod[k])

    for k in range(steps):
        expected = tau0 + ratio(k) * noise
        for i in range(k + 1):
            if estimator == "paper":
                alpha = cumprod[i] / (cumprod[i - 1] if i else 1.0)
                c = (1 - alpha) / math.sqrt((1 - cumprod[i]) * cumprod[i])
            else:
                c = ratio(i) - (ratio(i - 1) if i else 0.0)
            expected = expected - c * predicted[:, i]
        torch.testing.assert_close(denoised[:, k], expected, rtol=1e-8, atol=1e-8)


@given(steps=st.integers(2, 100), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_perfect_network_gives_the_clean_plan_but_for_the_papers_residual(steps, seed):
    process = Process(steps, dtype=F64)
    generator = torch.Generator().manual_seed(seed)
    tau0 = torch.randn(1, 3, 2, dtype=F64, generator=generator)
    noise = torch.randn(1, 3, 2, dtype=F64, generator=generator)
    perfect = noise[:, None].expand(1, steps, 3, 2)
    ddim = denoise_chain(process, tau0, noise, perfect, "ddim")
    torch.testing.assert_close(ddim, tau0[:, None].expand_as(ddim), rtol=1e-8, atol=1e-8)
    paper = denoise_chain(process, tau0, noise, perfect, "paper")
    coefficients = process.betas / ((1 - process.alphas_cumprod) * process.alphas_cumprod).sqrt()  # as printed
    residual = process.noise_ratio - coefficients.cumsum(0)
    torch.testing.assert_close(
        paper - tau0[:, None], residual[:, None, None] * noise[:, None], rtol=1e-7, atol=1e-7, check_stride=False
    )
    assert (residual[1:] < 0).all()  # more noise is removed than there is
