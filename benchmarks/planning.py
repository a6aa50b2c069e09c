"""Speed of planning, as ratios of medians measured side by side in one run.

    python benchmarks/planning.py [--diffuser FOLDER]

Full-size U-Net of hopper, horizon 32, K = 20 (Diffuser's own), unguided. FOLDER is a clone of
github.com/jannerm/diffuser (it needs `pip install einops`): its own model and sampling, one environment after another,
as its evaluation plans.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from peer import Policy, diffusion, value_diffusion
from training import ACTION, OBSERVATION, TASK, measure

from dmemm.config import EvaluateConfig
from dmemm.device import choose_device
from dmemm.diffusion.model import DiffusionModel
from dmemm.methods.levels import PLANNING
from dmemm.models import traced
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel
from dmemm.models.plan_value import PlanValue
from dmemm.planning.planner import Planner

EPISODES, HORIZON, STEPS = 20, 32, 20
PLAIN = replace(PLANNING, objective="reward", episodes=EPISODES, t_stopgrad=0)
GUIDED = replace(PLAIN, alpha=0.1, lambda_guide=0.1)


def planner(
    config: EvaluateConfig,
    device: torch.device,
    horizon: int = HORIZON,
    steps: int = STEPS,
    mults: tuple[int, ...] = (1, 2, 4, 8),
) -> Planner:
    """An untrained planner, of full size."""
    torch.manual_seed(0)
    header = {"action_dim": ACTION, "observation_dim": OBSERVATION, "horizon": horizon, "end_dim": 0}
    sizes = {"diffusion_steps": steps, "network": "unet", "unet_width": 32, "unet_mults": mults, "predict": "sample"}
    model = DiffusionModel({**header, **sizes}, device).requires_grad_(False).eval()
    model.scale.fill_(1.0)
    model.low.fill_(-5.0)
    model.high.fill_(5.0)
    model.make_fast()
    dynamics = DynamicsEnsemble(OBSERVATION, ACTION, 7, 200).to(device).requires_grad_(False)
    reward = RewardModel(OBSERVATION, ACTION, 1, 200).to(device).requires_grad_(False)
    plans = {"horizon": horizon, "transition_dim": OBSERVATION + ACTION, "diffusion_steps": steps}
    plan_value = PlanValue(plans).to(device).requires_grad_(False)
    return Planner(TASK, config, model, dynamics, reward, plan_value=plan_value)


def planning(config: EvaluateConfig, batch: int, device: torch.device, **sizes: Any) -> Callable[[], object]:
    """A plan for each of `batch` environments, in one batch."""
    made, observations = planner(config, device, **sizes), np.zeros((batch, OBSERVATION), np.float32)
    return lambda: made.plan(observations)


def peer(folder: Path, batch: int, device: torch.device) -> Callable[[], object]:
    """The same by Diffuser's own sampling, one environment after another."""
    torch.manual_seed(0)
    model = diffusion(folder, OBSERVATION, ACTION, device)
    observation = torch.zeros(1, OBSERVATION, device=device)

    def run() -> None:
        for _ in range(batch):
            model.conditional_sample({0: observation}, verbose=False)

    return run


def guided_peer(folder: Path, candidates: int, device: torch.device, **changes: Any) -> Callable[[], object]:
    """A plan for one environment by Diffuser's own guided sampling, with `changes` of its settings."""
    torch.manual_seed(0)
    models = [make(folder, OBSERVATION, ACTION, device, **changes) for make in (diffusion, value_diffusion)]
    unchanged = SimpleNamespace(action_dim=ACTION, normalize=lambda x, _: x, unnormalize=lambda x, _: x)
    policy, observation = Policy(folder, *models, unchanged, candidates), np.zeros((1, OBSERVATION), np.float32)
    return lambda: policy.act(observation, None, np.ones(1, dtype=bool))


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diffuser", type=Path, help="a clone of github.com/jannerm/diffuser")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    device = choose_device()
    traced._WORTH = 1  # at once, not after the hundred evaluations that go unmeasured in an episode
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}\n")
    cases = {
        f"{EPISODES} plans, one batch": planning(PLAIN, EPISODES, device),
        "1 plan": planning(PLAIN, 1, device),
        "1 plan, 8 candidates, guided": planning(replace(GUIDED, candidates=8), 1, device),
        f"{EPISODES} plans, guided": planning(GUIDED, EPISODES, device),
        f"{EPISODES} plans, DDIM over 5 levels": planning(replace(PLAIN, sampling_steps=5), EPISODES, device),
        "1 plan, K = 100": planning(PLAIN, 1, device, steps=100),
        "1 plan, horizon 100": planning(PLAIN, 1, device, horizon=100),
    }
    if arguments.diffuser:
        cases[f"{EPISODES} plans, Diffuser's own"] = peer(arguments.diffuser, EPISODES, device)
        cases["1 plan, Diffuser's own"] = peer(arguments.diffuser, 1, device)
    seconds = measure(cases, arguments.rounds, device)
    print("| case | ms |\n| --- | ---: |")
    for case, value in seconds.items():
        print(f"| {case} | {1000 * value:.1f} |")
    if arguments.diffuser:
        many, one = (seconds[f"{case}, Diffuser's own"] for case in (f"{EPISODES} plans", "1 plan"))
        print("\n| ratio | |\n| --- | ---: |")
        ratio = many / seconds[f"{EPISODES} plans, one batch"]
        print(f"| plans a second for {EPISODES} environments / Diffuser's | {ratio:.1f} |")
        print(f"| latency of one plan / Diffuser's | {seconds['1 plan'] / one:.2f} |")


if __name__ == "__main__":
    main()
