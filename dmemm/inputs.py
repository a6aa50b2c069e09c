"""The files that a stage reads, and where the pipeline keeps them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dmemm.errors import UserError

# What the pipeline makes, by the option that gives it to a stage.
PATHS = {
    "raw": "data/raw/{task}.hdf5",
    "statistics": "results/data/{task}.json",
    "segments": "data/segments/{task}.h5",
    "dynamics": "results/dynamics/{task}/seed{seed}.safetensors",
    "reward": "results/reward/{task}/seed{seed}.safetensors",
    "value": "results/value/{task}/seed{seed}.safetensors",
    "plan_value": "results/plan_value/{task}/seed{seed}.safetensors",
    "model": "results/models/{task}/{method}/seed{seed}.safetensors",
}


@dataclass(frozen=True)
class Inputs:
    """Files that a stage reads, by the option that gives them; None: not given.

    Attributes:
        raw: the raw data, of `download`.
        statistics: the data set's statistics, of `download`.
        segments: the windows, of `segment`.
        dynamics: the transition ensemble, of `dynamics`.
        reward: the reward model, of `reward`.
        value: the value model, of `value`.
        plan_value: the value of noisy plans, of `plan-value`.
        model: the trained weights, of `train`.
    """

    raw: Path | None = None
    statistics: Path | None = None
    segments: Path | None = None
    dynamics: Path | None = None
    reward: Path | None = None
    value: Path | None = None
    plan_value: Path | None = None
    model: Path | None = None

    def need(self, name: str) -> Path:
        """Return the path of an input that cannot be left out.

        Raises:
            UserError: it was not given.
        """
        path = getattr(self, name)
        if path is None:
            raise UserError(f"--{name.replace('_', '-')}: missing; the method needs this file")
        assert isinstance(path, Path)
        return path


def in_pipeline(names: Iterable[str], task: str, method: str, seed: int) -> Inputs:
    """Return the pipeline's own files of these names."""
    return Inputs(**{name: Path(PATHS[name].format(task=task, method=method, seed=seed)) for name in names})
