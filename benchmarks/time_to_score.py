"""Minutes of one CPU thread from the raw data to a score, of this project and of Diffuser's own code, in one run.

    python benchmarks/time_to_score.py FOLDER --diffuser CLONE [--raw FILE] [--minutes 60]

Both train on the same data in turns, a few minutes each: this project as params.yaml says, its segments, mechanisms
and values included; Diffuser with its own locomotion settings, its value function included. The clock is the CPU time
of this process, which has one thread; those that read Diffuser's batches are not counted. Then they are scored, off the
clock, in episodes from the same starts. FOLDER keeps checkpoints and scores: once a training is stopped, the same
command scores what there is.
"""

import argparse
import json
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from column import planner, prepare
from column import train as train_column
from peer import Policy, Training, sequences

from dmemm.config import Params, load_params
from dmemm.data.local import best_score
from dmemm.data.raw import read_raw
from dmemm.envs import make_env
from dmemm.files import write_json
from dmemm.models import traced
from dmemm.planning.rollout import Actor, run_episodes
from dmemm.tasks import get_task

TASK = get_task("hopper-medium-replay")
CPU = torch.device("cpu")
PEER = "Diffuser's own code"
OURS = {"DMEMM": "dmemm", "Diffuser, this project's": "diffuser"}
SHARE = 0.9  # of a level that counts as reaching it
_STEPS = 500  # of our training between two checkpoints


def theirs(clone: Path, raw_path: Path, folder: Path, minutes: float, every: float) -> Iterator[Path | None]:
    """Diffuser's two trainings, for so many minutes of CPU time; yields about every half minute, and checkpoints."""
    training = Training(clone, read_raw(raw_path), CPU, folder / "scratch")
    seconds, saved = 0.0, 0
    while seconds < 60 * minutes:
        start = time.process_time()
        for _ in range(3):
            training.train()
        seconds += time.process_time() - start
        if seconds >= 60 * every * (saved + 1):
            saved += 1
            path = folder / f"{training.plans.step}.safetensors"
            training.save(path)
            yield path
        else:
            yield None


def train(clone: Path, raw_path: Path, params: Params, folder: Path, minutes: float, every: float) -> None:
    """Train all sides in turns; write each checkpoint and its times, CPU and wall, into `folder`."""
    sides: dict[str, Iterator[Path | None]] = {PEER: theirs(clone, raw_path, _made(folder / "peer"), minutes, every)}
    for label, name in OURS.items():
        own = name, TASK, params, raw_path, _made(folder / name)
        sides[label] = chain(prepare(*own), train_column(*own, _STEPS))
    clocks, rows = {label: [0.0, 0.0] for label in sides}, []
    while sides:
        for label, side in list(sides.items()):
            start = time.process_time(), time.perf_counter()
            path: Path | bool | None = next(side, False)
            clocks[label][0] += time.process_time() - start[0]
            clocks[label][1] += time.perf_counter() - start[1]
            if path is False:
                del sides[label]
            elif isinstance(path, Path):
                (cpu, wall), steps = clocks[label], int(path.stem.split("-")[-1])
                rows.append(
                    {"side": label, "steps": steps, "path": str(path), "cpu": cpu, "wall": wall, "scores": None}
                )
                write_json(folder / "checkpoints.json", {"checkpoints": rows})
                print(f"{label}: {steps} steps, {cpu:.0f} s of CPU, {wall:.0f} s", flush=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load(row: dict[str, Any], params: Params, raw_path: Path, clone: Path, candidates: int) -> Actor:
    """What acts by a checkpoint."""
    path = Path(row["path"])
    if row["side"] == PEER:
        return Policy.load(clone, path, sequences(clone, read_raw(raw_path)).normalizer, candidates, CPU)
    return planner(OURS[row["side"]], TASK, params, path)


def decisions(actor: Actor, environments: int) -> float:
    """Decisions a second of CPU time, for so many environments at once, once the actor is warm."""
    env = make_env(TASK)
    observations = np.stack([env.reset(seed=seed)[0] for seed in range(environments)])
    env.close()
    seconds, count, running = 0.0, 0, np.ones(environments, dtype=bool)
    actor.act(observations, None, running)
    while seconds < 5:
        start = time.process_time()
        actor.act(observations, None, running)
        seconds += time.process_time() - start
        count += environments
    return count / seconds


def print_times(rows: list[dict[str, Any]]) -> None:
    """Print the time after which no score of a side is below each level, and the scores."""
    best, last = best_score(TASK), [row for row in rows if row["side"] == "DMEMM" and row["scores"]][-1]
    levels = {"the data's best policy": best, "DMEMM's last checkpoint": np.mean(last["scores"])}
    print(f"\n| CPU minutes (minutes passed) until at {SHARE:.0%} of | " + " | ".join((*OURS, PEER)) + " | ratio |")
    print("| --- | " + "---: | " * (len(OURS) + 2))
    for level, value in levels.items():
        cells, reached = [], {}
        for side in (*OURS, PEER):
            of_side = [row for row in rows if row["side"] == side]
            scored = [row for row in of_side if row["scores"]]
            below = [i for i, row in enumerate(scored) if np.mean(row["scores"]) < SHARE * value]
            stays = scored[below[-1] + 1 if below else 0 :]  # a few episodes may also reach it by chance
            row, sign = (stays[0], "") if stays else (of_side[-1], "> ")
            reached[side] = row["cpu"]
            cells.append(f"{sign}{row['cpu'] / 60:.1f} ({row['wall'] / 60:.1f})")
        ratio = f"{sign}{reached[PEER] / reached['DMEMM']:.0f}"
        print(f"| {level}, {SHARE * value:.1f} | {' | '.join(cells)} | {ratio} |")
    print("\n| checkpoint | steps | CPU minutes | score |\n| --- | ---: | ---: | ---: |")
    for row in rows:
        scores = row["scores"]
        error = np.std(scores, ddof=1) / len(scores) ** 0.5 if scores and len(scores) > 1 else 0
        shown = f"{np.mean(scores):.1f} ± {error:.1f}" if scores else "-"
        print(f"| {row['side']} | {row['steps']} | {row['cpu'] / 60:.1f} | {shown} |")


def print_decisions(rows: dict[str, dict[str, Any]], params: Params, raw_path: Path, clone: Path) -> None:
    """Print how fast each side decides by a checkpoint, beside its score; Diffuser plans for one environment only."""
    print("\n| decisions a second of CPU time | one environment | ten, in one batch | score |")
    print("| --- | ---: | ---: | ---: |")
    for side, row in rows.items():
        actor = load(row, params, raw_path, clone, 64)
        rates = [f"{decisions(actor, environments):.2f}" for environments in ((1,) if side == PEER else (1, 10))]
        print(f"| {side} | {' | '.join([*rates, '-'][:2])} | {np.mean(row['scores']):.1f} |", flush=True)


def main() -> None:
    """Train, score, and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--diffuser", type=Path, required=True, help="a clone of github.com/jannerm/diffuser")
    parser.add_argument("--raw", type=Path, default=Path(f"data/raw/{TASK.name}.hdf5"), help="what `download` wrote")
    parser.add_argument("--minutes", type=float, default=60, help="of CPU time, of Diffuser's training")
    parser.add_argument("--every", type=float, default=5, help="minutes between two of its checkpoints")
    parser.add_argument("--episodes", type=int, default=5, help="of each checkpoint")
    parser.add_argument("--candidates", type=int, default=64, help="of Diffuser's policy where it is scored")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    traced._WORTH = 1  # at once, so that a checkpoint's few decisions are as fast as those of a long evaluation
    params, folder, record = load_params(Path("params.yaml")), arguments.folder, arguments.folder / "checkpoints.json"
    if not record.exists():
        train(arguments.diffuser, arguments.raw, params, folder, arguments.minutes, arguments.every)
    rows = json.loads(record.read_text())["checkpoints"]
    both = params, arguments.raw, arguments.diffuser
    for row in reversed(rows):  # the last ones first: they tell whether a level was reached at all
        if row["scores"] is None:
            episodes = run_episodes(TASK, load(row, *both, arguments.candidates), episodes=arguments.episodes, seed=0)
            row["scores"] = [TASK.score(value) for value in episodes.returns]
            write_json(record, {"checkpoints": rows})
    print_times(rows)
    print_decisions({side: [row for row in rows if row["side"] == side][-1] for side in (*OURS, PEER)}, *both)


if __name__ == "__main__":
    main()
