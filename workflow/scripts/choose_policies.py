"""Choose the policies of the local data from the checkpoints that train_policies.py wrote.

    python workflow/scripts/choose_policies.py policies

Every checkpoint is rolled out as the data are, its actions sampled. The expert is the checkpoint with the highest mean
return less its deviation, the medium one the first to reach nine tenths of D4RL's medium return, and the replay ones
are those before it, from the random start on, evenly spread. Writes dmemm/data/policies/BODY.safetensors, whose header
holds the table.
"""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from dmemm.data.local import Policy
from dmemm.envs import make_env
from dmemm.files import replacing
from dmemm.tasks import get_task

EPISODES = 20
REPLAY = 7  # checkpoints before the medium one
SEED, RANDOM_STEPS = 0, 10_000  # of train_policies.py
# Mean returns of D4RL's medium data.
MEDIUM = {"hopper": 1422.0, "halfcheetah": 4770.0, "walker2d": 2852.0}
FOLDER = Path("dmemm/data/policies")


def returns(body: str, policy: Policy) -> np.ndarray[Any, Any]:
    """Of `EPISODES` episodes with sampled actions."""
    env, rng = make_env(get_task(f"{body}-medium")), np.random.default_rng(0)
    found = []
    for episode in range(EPISODES):
        observation, _ = env.reset(seed=episode)
        total, ended = 0.0, False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(policy.sample(observation, rng))
            total, ended = total + float(reward), terminated or truncated
        found.append(total)
    return np.array(found)


def main() -> None:
    """Roll out, choose, write."""
    parser = argparse.ArgumentParser(description="Choose the policies of the local data.")
    parser.add_argument("folder", type=Path, help="what train_policies.py wrote")
    folder = parser.parse_args().folder
    for body, wanted in MEDIUM.items():
        with safe_open(folder / f"{body}.safetensors", "np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        rows: list[dict[str, Any]] = []
        steps = sorted({int(name.partition(".")[0]) for name in tensors})
        for step in (step for step in steps if step == 0 or step > RANDOM_STEPS):  # in between nothing was learnt
            policy = Policy.of(tensors, step)
            found = returns(body, policy)
            rows.append({"steps": step, "return_mean": round(found.mean()), "return_std": round(found.std())})
            print(f"{body} {step}: {found.mean():.0f} ± {found.std():.0f}", flush=True)
        expert = max(rows, key=lambda row: row["return_mean"] - row["return_std"])
        medium = next(row for row in rows if row["return_mean"] > 0.9 * wanted)
        before = [row for row in rows if row["steps"] < medium["steps"]]
        earlier = [before[i] for i in np.unique(np.linspace(0, len(before) - 1, REPLAY).round().astype(int))]
        chosen = [*earlier, medium, expert]
        for row in chosen:
            row |= {"seed": SEED, "level": "expert" if row is expert else "medium" if row is medium else "replay"}
        names = {str(row["steps"]) for row in chosen}
        kept = {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] in names}
        with replacing(FOLDER / f"{body}.safetensors") as temporary:
            save_file(kept, temporary, {"policies": json.dumps(chosen)})


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
