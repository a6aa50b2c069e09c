"""Diffuser's own code, of a clone of github.com/jannerm/diffuser: models, data sets, training loop, guide, settings.

Nothing of it is changed but the device, which it fixes as `cuda:0`. It needs `pip install einops`.
"""

import contextlib
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from dmemm.data.raw import RawData

UNIT = 10  # gradient steps of the value function that are taken in one go
_DATA = ("observations", "actions", "rewards", "terminals", "timeouts")


def import_diffuser(folder: Path) -> None:
    """Make the package of the clone importable, without the imports of it that nothing here calls.

    Those are gym, D4RL, mujoco-py, a renderer and a parser of command lines.
    """
    if "diffuser" in sys.modules:
        return
    package, utils = types.ModuleType("diffuser"), types.ModuleType("diffuser.utils")
    package.__path__, utils.__path__ = [str(folder / "diffuser")], [str(folder / "diffuser" / "utils")]
    package.utils = utils  # type: ignore[attr-defined]
    sys.modules.update({"diffuser": package, "diffuser.utils": utils})
    for name in ("gym", "d4rl"):
        sys.modules.setdefault(name, types.ModuleType(name))
    np.int = int  # type: ignore[attr-defined]  # NumPy has had no such name since 1.24
    from diffuser.utils import arrays, progress

    for module in (arrays, progress):
        vars(utils).update({name: value for name, value in vars(module).items() if not name.startswith("__")})
    utils.watch = lambda _: None  # type: ignore[attr-defined]


def settings(folder: Path) -> dict[str, dict[str, Any]]:
    """Its settings for locomotion, config/locomotion.py: of `diffusion`, `values` and `plan`."""
    import_diffuser(folder)
    spec = importlib.util.spec_from_file_location("diffuser_locomotion", folder / "config" / "locomotion.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    base: dict[str, dict[str, Any]] = module.base
    return base


def diffusion(folder: Path, observation_dim: int, action_dim: int, device: torch.device, **changes: Any) -> Any:
    """Its diffusion model with its settings of hopper, or `changes` of them."""
    use = settings(folder)["diffusion"] | changes
    from diffuser.models.diffusion import GaussianDiffusion
    from diffuser.models.temporal import TemporalUnet

    with quiet():
        network = TemporalUnet(
            use["horizon"], observation_dim + action_dim, observation_dim, dim_mults=use["dim_mults"]
        )
    names = ("loss_type", "clip_denoised", "predict_epsilon", "action_weight", "loss_discount", "loss_weights")
    return GaussianDiffusion(
        network, use["horizon"], observation_dim, action_dim, n_timesteps=use["n_diffusion_steps"],
        **{name: use[name] for name in names},
    ).to(device)  # fmt: skip


def value_diffusion(folder: Path, observation_dim: int, action_dim: int, device: torch.device, **changes: Any) -> Any:
    """The value function that guides it."""
    use = settings(folder)["values"] | changes
    from diffuser.models.diffusion import ValueDiffusion
    from diffuser.models.temporal import ValueFunction

    with quiet():
        network = ValueFunction(
            use["horizon"], observation_dim + action_dim, observation_dim, dim_mults=use["dim_mults"]
        )
    return ValueDiffusion(
        network, use["horizon"], observation_dim, action_dim, n_timesteps=use["n_diffusion_steps"],
        loss_type=use["loss_type"],
    ).to(device)  # fmt: skip


def sequences(folder: Path, raw: RawData, name: str = "diffusion", **changes: Any) -> Any:
    """Its data set of `raw`: windows of plans, or for `values` with their values."""
    use = settings(folder)[name]
    from diffuser.datasets.sequence import SequenceDataset, ValueDataset

    environment = types.SimpleNamespace(
        name=raw.task, seed=lambda _: None, get_dataset=lambda: {key: getattr(raw, key) for key in _DATA}
    )
    with quiet():
        return (ValueDataset if name == "values" else SequenceDataset)(
            environment, use["horizon"], use["normalizer"], use["preprocess_fns"], use["max_path_length"],
            use_padding=use["use_padding"], **changes,
        )  # fmt: skip


@contextlib.contextmanager
def quiet() -> Any:
    """Without what it prints."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


class Training:
    """Train Diffuser's model and value function on `raw` with its own `Trainer`, which writes its files to `scratch`.

    The numbers of gradient steps are in the ratio of Diffuser's settings: a million for plans to 200,000 for values.
    """

    def __init__(self, folder: Path, raw: RawData, device: torch.device, scratch: Path) -> None:
        """Make its data sets, models and trainers."""
        every = settings(folder)
        from diffuser.utils import training

        to_device = training.batch_to_device
        training.batch_to_device = lambda batch: to_device(batch, device)
        dims = raw.observations.shape[1], raw.actions.shape[1]

        def trainer(name: str, model: Any, **changes: Any) -> Any:
            use, results = every[name], scratch / name
            results.mkdir(parents=True, exist_ok=True)
            return training.Trainer(
                model, sequences(folder, raw, name, **changes), None, use["ema_decay"], use["batch_size"],
                use["learning_rate"], use["gradient_accumulate_every"], save_freq=use["save_freq"], sample_freq=0,
                results_folder=results,
            )  # fmt: skip

        self.plans = trainer("diffusion", diffusion(folder, *dims, device))
        # `plan` loads the values of its own discount, not of the one that `values` has by default.
        changes = {name: every["values"][name] for name in ("termination_penalty", "normed")}
        changes["discount"] = every["plan"]["discount"]
        self.values = trainer("values", value_diffusion(folder, *dims, device), **changes)
        self._ratio = round(every["diffusion"]["n_train_steps"] / every["values"]["n_train_steps"])

    def train(self) -> None:
        """Take `UNIT` gradient steps of the values, and five times as many of the plans."""
        with quiet():
            self.plans.train(self._ratio * UNIT)
            self.values.train(UNIT)

    def save(self, path: Path) -> None:
        """Write the averaged weights of both."""
        tensors = {f"plans.{name}": tensor for name, tensor in self.plans.ema_model.state_dict().items()}
        tensors |= {f"values.{name}": tensor for name, tensor in self.values.ema_model.state_dict().items()}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


class Policy:
    """Its guided policy with its settings, for several environments at once.

    Args:
        folder: the clone.
        model, value: as `diffusion` and `value_diffusion` return.
        normalizer: its own, of the data.
        candidates: plans an environment, of which it executes the best one.

    Attributes:
        plans_made: plans so far, one a decision.
    """

    def __init__(self, folder: Path, model: Any, value: Any, normalizer: Any, candidates: int) -> None:
        """Take its guide and sampler."""
        plan = settings(folder)["plan"]
        from diffuser.sampling.functions import n_step_guided_p_sample
        from diffuser.sampling.guides import ValueGuide

        self._model, self._normalizer, self._candidates = model, normalizer, candidates
        names = ("scale", "t_stopgrad", "n_guide_steps", "scale_grad_by_std")
        self._sampling = {name: plan[name] for name in names}
        self._sampling |= {"guide": ValueGuide(value), "sample_fn": n_step_guided_p_sample, "verbose": False}
        self.plans_made = 0

    @classmethod
    def load(cls, folder: Path, path: Path, normalizer: Any, candidates: int, device: torch.device) -> "Policy":
        """The policy of weights that `Training.save` wrote."""
        dims = normalizer.observation_dim, normalizer.action_dim
        model, value, tensors = (
            diffusion(folder, *dims, device),
            value_diffusion(folder, *dims, device),
            load_file(path),
        )
        for name, part in (("plans.", model), ("values.", value)):
            part.load_state_dict({key.removeprefix(name): t for key, t in tensors.items() if key.startswith(name)})
        return cls(folder, model, value, normalizer, candidates)

    def reset(self) -> None:
        """Nothing is kept between steps."""

    def act(
        self, observations: NDArray[np.float32], goals: NDArray[np.float32] | None, running: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """The actions (batch, Da) for observations (batch, Ds); zero where not `running` (batch,)."""
        dim = self._normalizer.action_dim
        known = self._normalizer.normalize(observations[running], "observations")
        known = torch.as_tensor(known, dtype=torch.float32, device=self._model.betas.device)
        plans = self._model({0: known.repeat_interleave(self._candidates, 0)}, **self._sampling).trajectories
        # The best plans come first, those of all environments among each other: each is known by its first state.
        best = (plans[:, None, 0, dim:] == known).all(-1).int().argmax(0)
        actions = np.zeros((len(observations), dim), np.float32)
        actions[running] = self._normalizer.unnormalize(plans[best, 0, :dim].cpu().numpy(), "actions")
        self.plans_made += len(known)
        return actions
