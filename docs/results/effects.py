"""Print the differences that the pages beside it give, with 95 % intervals, and draw pictures/effects.png.

All are computed from scores.csv, by `python docs/results/effects.py`.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dmemm.reporting.intervals import interval, mean_over_tasks

HERE = Path(__file__).parent
Pair = tuple[str, str, str, str]  # a table of scores.csv, a task, and two variants: the first minus the second
Effect = tuple[float, float, float]  # the mean difference, and the ends of its interval


def pairs(table: str, tasks: Sequence[str], x: str, y: str) -> list[Pair]:
    """Return x and y on each task."""
    return [(table, task, x, y) for task in tasks]


REPLAY = ["hopper-medium-replay", "halfcheetah-medium-replay", "walker2d-medium-replay"]
OTHERS = [f"{robot}-medium{end}" for robot in ("hopper", "halfcheetah", "walker2d") for end in ("", "-expert")]
GUIDED_OTHERS = [task for task in OTHERS if task != "halfcheetah-medium-expert"]
QUICK = ["hopper-medium-replay", "halfcheetah-medium-expert", "walker2d-medium"]
MEDIUM, LARGE = ["maze2d-medium", "multi2d-medium"], ["maze2d-large", "multi2d-large"]
CONDITIONS = {
    "Locomotion, nine data sets": ("table 1", REPLAY + OTHERS),
    "    replay data": ("table 1", REPLAY),
    "    the other six": ("table 1", OTHERS),
    "Three of them, 30,000 transitions": ("few data, 30000 transitions", QUICK),
    "    10,000 transitions": ("few data, 10000 transitions", QUICK),
    "Mazes, four rows": ("mazes", MEDIUM + LARGE),
    "    medium": ("mazes", MEDIUM),
    "    large": ("mazes", LARGE),
}
PARTS = {
    "DMEMM minus Diffuser": ("dmemm", "diffuser", "tab:blue"),
    "of it, how plans are guided and chosen": ("wo_modulation", "diffuser", "tab:orange"),
    "of it, how the network is trained": ("dmemm", "wo_modulation", "tab:green"),
}
STEPS_4000 = "table 3 and figure 1, 4000 steps"
HOPPER_WALKER2D = [REPLAY[0], REPLAY[2]]
TABLE3 = {  # the rows of Table 3 after 12,000 steps, by the quality of their data
    "medium-expert data": ("table 3, 12000 steps", ["hopper-medium-expert", "walker2d-medium-expert"]),
    "medium data": ("table 3, 12000 steps", ["hopper-medium", "walker2d-medium"]),
    "replay data": ("table 1", HOPPER_WALKER2D),
}
COMPONENTS = "wo_weighting", "wo_lambda_tr", "wo_lambda_rd", "wo_tr_guide", "wo_modulation", "only_weighting"
OTHER_EFFECTS = {
    **{
        f"DMEMM minus {column}, {data}": pairs(*rows, "dmemm", column)
        for data, rows in TABLE3.items()
        for column in COMPONENTS
    },
    **{
        f"DMEMM minus {column}, six rows": [pair for rows in TABLE3.values() for pair in pairs(*rows, "dmemm", column)]
        for column in COMPONENTS
    },
    **{
        f"DMEMM minus {column}, 4000 steps": pairs(STEPS_4000, HOPPER_WALKER2D, "dmemm", column)
        for column in COMPONENTS
    },
    "DMEMM minus Diffuser, alpha of each task": pairs(
        "table 1, alpha of each task", REPLAY + OTHERS, "dmemm", "diffuser"
    ),
    "the same, replay data": pairs("table 1, alpha of each task", REPLAY, "dmemm", "diffuser"),
    "w/o modulation minus weighting only, replay data": pairs(
        *TABLE3["replay data"], "wo_modulation", "only_weighting"
    ),
    **{
        f"lambda_tr 0.1 minus {value}, 12000 steps": pairs(
            "figure 1, 12000 steps", HOPPER_WALKER2D, "lambda_tr=0.1", variant
        )
        for value, variant in {
            "0": "wo_lambda_tr",
            "0.01": "lambda_tr=0.01",
            "0.3": "lambda_tr=0.3",
            "1": "dmemm",
            "10": "lambda_tr=10.0",
        }.items()
    },
    **{
        f"lambda_rd 0.05 minus {value}, 12000 steps": pairs("figure 1, 12000 steps", HOPPER_WALKER2D, "dmemm", variant)
        for value, variant in {
            "0": "wo_lambda_rd",
            "0.005": "lambda_rd=0.005",
            "0.1": "lambda_rd=0.1",
            "0.5": "lambda_rd=0.5",
        }.items()
    },
    "lambda_tr 0.1 minus 1, four data sets, 4000 steps": [
        *pairs(STEPS_4000, HOPPER_WALKER2D, "lambda_tr=0.1", "dmemm"),
        *pairs("weights of the losses", QUICK[1:], "lambda_tr=0.1", "dmemm"),
    ],
    "guided minus unguided, replay data": pairs("table 1", REPLAY, "dmemm", "dmemm, unguided"),
    "guided minus unguided, the other five": pairs("table 1", GUIDED_OTHERS, "dmemm", "dmemm, unguided"),
    **{
        f"guided minus unguided, {number} transitions": pairs(
            f"few data, {number} transitions", [REPLAY[0], "walker2d-medium"], "dmemm", "dmemm, unguided"
        )
        for number in (30_000, 10_000)
    },
    "DMEMM minus Diffuser, U-maze": pairs("mazes, U-maze", ["maze2d-umaze", "multi2d-umaze"], "dmemm", "diffuser"),
    "guided minus unguided, mazes": pairs("mazes", MEDIUM + LARGE, "dmemm", "dmemm, unguided"),
    "Diffuser minus unguided, maze2d-large": pairs("mazes", [LARGE[0]], "diffuser", "dmemm, unguided"),
}

# The score of each seed, by (table, task, variant).
Scores = dict[tuple[str, str, str], dict[int, float]]


def read_scores() -> Scores:
    """Read scores.csv."""
    scores: Scores = defaultdict(dict)
    with (HERE / "scores.csv").open() as file:
        for row in csv.DictReader(file):
            scores[row["table"], row["task"], row["variant"]][int(row["seed"])] = float(row["score"])
    return scores


def difference(scores: Scores, compared: Sequence[Pair]) -> Effect:
    """Return the mean difference of pairs with the same seed, averaged over tasks, and its interval's ends."""
    samples = []
    for table, task, x, y in compared:
        ours, other = scores[table, task, x], scores[table, task, y]
        samples.append(np.array([ours[seed] - other[seed] for seed in ours if seed in other]))
    low, high = interval(samples, mean_over_tasks)
    assert low is not None and high is not None, f"{compared}: fewer than two seeds in common"
    return float(mean_over_tasks(*samples)), low, high


def effects() -> dict[tuple[str, str], Effect]:
    """Return every difference by condition and what is compared."""
    scores = read_scores()
    parts = {
        (condition, part): difference(scores, pairs(*where, x, y))
        for condition, where in CONDITIONS.items()
        for part, (x, y, _) in PARTS.items()
    }
    return parts | {("", name): difference(scores, compared) for name, compared in OTHER_EFFECTS.items()}


def show(mean: float, low: float, high: float) -> str:
    """Return the difference as the pages write it."""
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def draw(values: dict[tuple[str, str], Effect]) -> None:
    """Draw the differences between DMEMM and Diffuser: a group of three for each condition."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for row, condition in enumerate(CONDITIONS):
        for part, (label, (*_, colour)) in enumerate(PARTS.items()):
            mean, low, high = values[condition, label]
            height = row + part / 4 - 0.25
            axes.plot([low, high], [height, height], color=colour)
            axes.plot(mean, height, "o", color=colour, label="" if row else label)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(CONDITIONS)), list(CONDITIONS), horizontalalignment="left")
    axes.tick_params(axis="y", length=0, pad=190)
    axes.invert_yaxis()
    axes.set_xlabel("difference of normalised scores, with its 95 % interval")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(frameon=False, loc="outside upper right", ncols=3, fontsize="small")
    figure.savefig(HERE.parent / "pictures/effects.png", dpi=110)


if __name__ == "__main__":
    computed = effects()
    for (condition, compared), effect in computed.items():
        print(f"{condition:35}{compared:52}{show(*effect)}")
    draw(computed)
