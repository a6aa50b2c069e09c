"""Augmented random search for the linear policies that collect local locomotion data.

ARS V2-t (Mania, Guy and Recht 2018): perturb a linear policy in random directions, run each one forwards and backwards,
step along the best few. Observations are normalised during the search and the normalisation is folded into the saved
numbers, so that a policy is `clip(weights @ observation + bias, -1, 1)`. Actions are noisy during the search, as they
are when data is collected: a policy that only walks undisturbed is of no use.

The numbers in `dmemm/data/policies` were made with `python -m dmemm.data.search BODY --minutes M`.
"""

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dmemm.files import write_json

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """What a search depends on; `alive_bonus` is subtracted from every reward, so that standing still earns nothing."""

    env_id: str
    directions: int
    elite: int
    step: float
    spread: float
    alive_bonus: float


SETTINGS = {
    "hopper": Settings("Hopper-v4", 8, 4, 0.01, 0.025, 1.0),
    "halfcheetah": Settings("HalfCheetah-v4", 32, 4, 0.02, 0.03, 0.0),
    "walker2d": Settings("Walker2d-v4", 24, 12, 0.025, 0.025, 1.0),
}
EPISODE_STEPS = 1000
ITERATES = 12


@dataclass
class Moments:
    """Running mean and variance of the observations seen in the search."""

    count: float
    total: Array
    squares: Array

    def affine(self, matrix: Array) -> tuple[Array, Array]:
        """Fold the normalisation into a policy: `matrix @ ((x - mean) / std)` as `weights @ x + bias`."""
        mean = self.total / self.count
        variance = np.maximum(self.squares / self.count - mean**2, 0)
        # A dimension that hardly moves (at first, all of them) must not be divided by almost nothing.
        weights = matrix / np.maximum(np.sqrt(variance), 1e-2)
        return weights, -weights @ mean


def rollout(
    env: gym.Env[Any, Any], weights: Array, bias: Array, noise_std: float, seed: int, moments: Moments | None = None
) -> tuple[float, int]:
    """Run one episode of a linear policy with Gaussian action noise; return its return and length."""
    # One draw for the whole episode: a direction's two sides meet the same disturbances.
    noise = noise_std * np.random.default_rng(seed).standard_normal((EPISODE_STEPS, len(bias)))
    observation, _ = env.reset(seed=seed)
    seen, episode_return = [], 0.0
    for step in range(EPISODE_STEPS):
        seen.append(observation)
        action = np.clip(weights @ observation + bias + noise[step], -1, 1)
        observation, reward, terminated, _, _ = env.step(action)
        episode_return += float(reward)
        if terminated:
            break
    if moments is not None:
        moments.count += len(seen)
        moments.total += np.sum(seen, 0)
        moments.squares += np.sum(np.square(seen), 0)
    return episode_return, len(seen)


def thin(history: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Choose `count` iterates from the first to the best, as evenly spaced in return as the search allows."""
    best = max(range(len(history)), key=lambda i: history[i]["return_mean"])
    returns = np.array([item["return_mean"] for item in history[: best + 1]])
    wanted = np.linspace(returns[0], returns[best], count)
    chosen = {int(np.argmin(np.abs(returns - value))) for value in wanted} | {0, best}
    return [history[i] for i in sorted(chosen)]


def search(settings: Settings, seed: int, seconds: float, noise_std: float, output: Path) -> None:
    """Search for `seconds` and keep `output` (JSON: a list of iterates) up to date."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gym.make(settings.env_id, disable_env_checker=True).unwrapped
    assert env.observation_space.shape and env.action_space.shape
    state_size, action_size = env.observation_space.shape[0], env.action_space.shape[0]
    rng = np.random.default_rng(seed)
    matrix = np.zeros((action_size, state_size))
    moments = Moments(1e-2, np.zeros(state_size), np.full(state_size, 1e-2))
    history: list[dict[str, Any]] = []
    start, next_save, steps, update = time.monotonic(), 0.0, 0, 0
    while (elapsed := time.monotonic() - start) < seconds:
        if elapsed >= next_save:
            weights, bias = moments.affine(matrix)
            runs = [rollout(env, weights, bias, noise_std, 10**6 + i) for i in range(8)]
            returns, lengths = np.array(runs).T
            history.append(
                {
                    "update": update,
                    "environment_steps": steps,
                    "return_mean": round(float(returns.mean()), 1),
                    "return_std": round(float(returns.std()), 1),
                    "weights": np.round(weights, 5).tolist(),
                    "bias": np.round(bias, 5).tolist(),
                }
            )
            write_json(output.with_suffix(".all.json"), history)
            write_json(output, thin(history, ITERATES))
            print(
                f"{elapsed:6.0f} s, update {update}, {steps} steps: return {returns.mean():.0f} ± {returns.std():.0f}, "
                f"length {lengths.mean():.0f}",
                flush=True,
            )
            next_save = elapsed + min(20.0, 3 + elapsed / 20)
        # The normalisation is held fixed within an update.
        frozen = Moments(moments.count, moments.total.copy(), moments.squares.copy())
        deltas = rng.standard_normal((settings.directions, action_size, state_size))
        scores = np.zeros((settings.directions, 2))
        for i, delta in enumerate(deltas):
            episode_seed = int(rng.integers(10**6))
            for side, sign in enumerate((1, -1)):
                weights, bias = frozen.affine(matrix + sign * settings.spread * delta)
                episode_return, length = rollout(env, weights, bias, noise_std, episode_seed, moments)
                scores[i, side] = episode_return - settings.alive_bonus * length
                steps += length
        elite = np.argsort(-scores.max(1))[: settings.elite]
        difference = scores[elite, 0] - scores[elite, 1]
        scale = settings.step / (settings.elite * max(scores[elite].std(), 1e-6))
        matrix += scale * np.tensordot(difference, deltas[elite], 1)
        update += 1


def main() -> None:
    """Command line of the search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("body", choices=SETTINGS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--noise", type=float, default=0.1, help="standard deviation of the action noise")
    parser.add_argument("--output", type=Path, default=None, help="default: dmemm/data/policies/BODY.json")
    arguments = parser.parse_args()
    output = arguments.output or Path(__file__).parent / "policies" / f"{arguments.body}.json"
    search(SETTINGS[arguments.body], arguments.seed, 60 * arguments.minutes, arguments.noise, output)


if __name__ == "__main__":
    main()
