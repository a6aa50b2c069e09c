"""Augmented random search for the linear policies that collect local locomotion data.

ARS V2-t (Mania, Guy and Recht 2018): perturb a linear policy in random directions, run each one forwards and backwards,
step along the best few. Observations are normalised during the search and the normalisation is folded into the saved
numbers, so that a policy is `clip(weights @ observation + bias, -1, 1)`. Actions are noisy during the search, as they
are when data is collected: a policy that only walks undisturbed is of no use.

The numbers in `dmemm/data/policies` come from `python -m dmemm.data.search BODY`, on one core each: halfcheetah
`--seed 0 --minutes 10`; hopper `--seed 0 --minutes 9`, then `--earlier ... --seed 5 --minutes 8`; walker2d
`--seed 10 --minutes 20`, then `--earlier ... --step 0.01 --seed 21 --minutes 12` (its small steps are what made it
walk to the end). As the clock ends a search, another machine gets other numbers.
"""

import argparse
import json
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dmemm.files import replacing

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
    "walker2d": Settings("Walker2d-v4", 16, 8, 0.025, 0.025, 1.0),
}
EPISODE_STEPS = 1000
ITERATES = 12


@dataclass
class Moments:
    """Running mean and variance of the observations seen in the search."""

    count: float
    total: Array
    squares: Array

    def affine(self, matrix: Array, offset: Array | float = 0.0) -> tuple[Array, Array]:
        """Fold the normalisation into a policy: `matrix @ ((x - mean) / std) + offset` as `weights @ x + bias`."""
        mean = self.total / self.count
        variance = np.maximum(self.squares / self.count - mean**2, 0)
        # A dimension that hardly moves (at first, all of them) must not be divided by almost nothing.
        weights = matrix / np.maximum(np.sqrt(variance), 1e-2)
        return weights, offset - weights @ mean


def rollout(
    env: gym.Env[Any, Any],
    weights: Array,
    bias: Array,
    noise_std: float,
    seed: int,
    moments: Moments | None = None,
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


def measure(env: gym.Env[Any, Any], weights: Array, bias: Array, noise_std: float, episodes: int) -> dict[str, float]:
    """Mean and standard deviation of the return, and the mean length, over the same `episodes` for every policy."""
    # Seeds that the search itself does not draw.
    runs = np.array([rollout(env, weights, bias, noise_std, 10**6 + i) for i in range(episodes)])
    values = {"return_mean": runs[:, 0].mean(), "return_std": runs[:, 0].std(), "length_mean": runs[:, 1].mean()}
    return {key: round(float(value), 1) for key, value in values.items()}


def select(env: gym.Env[Any, Any], history: list[dict[str, Any]], noise_std: float) -> list[dict[str, Any]]:
    """Thin the history, measure again over more episodes, and sort by return: the last one is the best."""
    chosen = [
        item | measure(env, np.array(item["weights"]), np.array(item["bias"]), noise_std, 24)
        for item in thin(history, ITERATES)
    ]
    return sorted(chosen, key=lambda item: float(item["return_mean"]))


def write_policies(path: Path, iterates: list[dict[str, Any]]) -> None:
    """Write iterates as JSON, one a line."""
    with replacing(path) as temporary:
        temporary.write_text("[\n" + ",\n".join(json.dumps(item) for item in iterates) + "\n]\n")


def make_robot(env_id: str) -> gym.Env[Any, Any]:
    """Build the bare simulator, without wrappers: the search is all about its speed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gym.make(env_id, disable_env_checker=True).unwrapped


def search(
    settings: Settings, seed: int, seconds: float, noise_std: float, output: Path, earlier: Path | None = None
) -> None:
    """Search for `seconds`; `output` is kept up to date, and all iterates in `output` with suffix `.all.json`.

    With `earlier`, an `.all.json` of a search that ended, go on from the best iterate of that one.
    """
    env = make_robot(settings.env_id)
    assert env.observation_space.shape and env.action_space.shape
    state_size, action_size = env.observation_space.shape[0], env.action_space.shape[0]
    rng = np.random.default_rng(seed)
    matrix = np.zeros((action_size, state_size))
    moments = Moments(1e-2, np.zeros(state_size), np.full(state_size, 1e-2))
    offset = np.zeros(action_size)
    history: list[dict[str, Any]] = json.loads(earlier.read_text()) if earlier else []
    next_save, steps, update = 0.0, 0, 0
    noise_now = 0.0
    if history:
        best = max(history, key=lambda item: float(item["return_mean"]))
        steps, update = best["environment_steps"], best["update"]
        history = [item for item in history if item["update"] < update]
        weights, bias = np.array(best["weights"]), np.array(best["bias"])
        for i in range(16):
            rollout(env, weights, bias, noise_std, i, moments)
        # What `affine` divides by and subtracts, undone.
        scale, _ = moments.affine(np.ones(state_size))
        matrix, offset = weights / scale, bias + weights @ (moments.total / moments.count)
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < seconds:
        if elapsed >= next_save:
            weights, bias = (np.round(array, 4) for array in moments.affine(matrix, offset))
            measured = measure(env, weights, bias, noise_std, 8)
            # A policy that falls at once has nothing to learn from being pushed around.
            noise_now = noise_std * min(1.0, measured["length_mean"] / EPISODE_STEPS)
            policy = {"weights": weights.tolist(), "bias": bias.tolist()}
            history.append({"update": update, "environment_steps": steps} | measured | policy)
            write_policies(output.with_suffix(".all.json"), history)
            write_policies(output, thin(history, ITERATES))
            print(f"{elapsed:.0f} s, update {update}, {steps} steps: {measured}", flush=True)
            next_save = elapsed + min(20.0, 3 + elapsed / 20)
        # The normalisation is held fixed within an update.
        frozen = Moments(moments.count, moments.total.copy(), moments.squares.copy())
        deltas = rng.standard_normal((settings.directions, action_size, state_size))
        scores = np.zeros((settings.directions, 2))
        for i, delta in enumerate(deltas):
            episode_seed = int(rng.integers(10**6))
            for side, sign in enumerate((1, -1)):
                weights, bias = frozen.affine(matrix + sign * settings.spread * delta, offset)
                episode_return, length = rollout(env, weights, bias, noise_now, episode_seed, moments)
                scores[i, side] = episode_return - settings.alive_bonus * length
                steps += length
        elite = np.argsort(-scores.max(1))[: settings.elite]
        difference = scores[elite, 0] - scores[elite, 1]
        scale = settings.step / (settings.elite * max(scores[elite].std(), 1e-6))
        matrix += scale * np.tensordot(difference, deltas[elite], 1)
        update += 1
    write_policies(output, select(env, history, noise_std))


def main() -> None:
    """Command line of the search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("body", choices=SETTINGS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--noise", type=float, default=0.1, help="standard deviation of the action noise")
    parser.add_argument("--earlier", type=Path, default=None, help="go on from this search's BODY.all.json")
    parser.add_argument("--step", type=float, default=None, help="step size, where not the body's usual one")
    parser.add_argument("--output", type=Path, default=None, help="default: dmemm/data/policies/BODY.json")
    arguments = parser.parse_args()
    output = arguments.output or Path(__file__).parent / "policies" / f"{arguments.body}.json"
    settings = SETTINGS[arguments.body]
    if arguments.step:
        settings = replace(settings, step=arguments.step)
    search(settings, arguments.seed, 60 * arguments.minutes, arguments.noise, output, arguments.earlier)


if __name__ == "__main__":
    main()
