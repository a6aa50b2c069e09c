"""Checkpoints: a killed training goes on where it was and ends with the weights of an unbroken one."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dmemm.errors import UserError
from dmemm.models.storage import load_weights, save_weights
from dmemm.source import program, sources

_ROOT = Path(__file__).resolve().parents[2]  # of the package


def fingerprint(settings: Mapping[str, Any], files: Iterable[Path | None], module: str) -> str:
    """Digest of all that a training's result depends on: its settings, its input files, the program of `module`.

    Raises:
        UserError: a file cannot be read.
    """
    digest = hashlib.sha256(json.dumps([settings, torch.__version__], sort_keys=True, default=str).encode())
    for path in files:
        if path is not None:
            try:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                raise UserError(f"{path}: cannot read it ({error.strerror}); run the stage that makes it") from error
    for name in sources(module, root=_ROOT):
        digest.update(program(_ROOT / name).encode())
    return digest.hexdigest()


@dataclass
class TrainingState:
    """Everything that a gradient step changes.

    Attributes:
        parameters: of the network, updated in place.
        average: their exponential moving average, of the same shapes.
        optimiser: Adam over `parameters`.
        generator: of windows, levels and noise.
        descend: draws plans and takes one step of the optimiser; what it adds to `sums` stays in the same tensors.
        sums: sum of each loss term over the steps since the last row of the curve.
        rows: the loss curve so far.
        step: gradient steps made.
        seconds: that they took, up to the last checkpoint.
    """

    parameters: list[Tensor]
    average: list[Tensor]
    optimiser: torch.optim.Adam
    generator: torch.Generator
    descend: Callable[[], None]
    sums: dict[str, Tensor] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)
    step: int = 0
    seconds: float = 0.0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add to the sums."""
        for name, value in terms.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros_like(value)
            self.sums[name].add_(value.detach())

    def take_sums(self) -> dict[str, Tensor]:
        """Return the sums and start new ones."""
        taken = {name: value.clone() for name, value in self.sums.items()}
        for value in self.sums.values():
            value.zero_()
        return taken

    def is_finite(self) -> bool:
        """Whether the network's weights are numbers (waits for the device)."""
        return bool(torch.stack(torch._foreach_norm(self.parameters)).isfinite().all())

    def save(self, path: Path, identity: str) -> None:
        """Write the state of the training that `identity` names; an earlier checkpoint is replaced only when done."""
        tensors = {"generator": self.generator.get_state()}
        tensors |= {f"sums.{name}": value for name, value in self.sums.items()}
        for index, parameter in enumerate(self.parameters):
            tensors[f"parameters.{index}"] = parameter
            tensors[f"average.{index}"] = self.average[index]
            for name, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser.{index}.{name}"] = value
        header = {"identity": identity, "step": self.step, "rows": self.rows, "seconds": self.seconds}
        save_weights(path, tensors, {"kind": "Checkpoint", **header})

    def resume(self, path: Path, identity: str) -> bool:
        """Restore the checkpoint at `path`; return False, unchanged, if there is none or it is of another training."""
        if not path.exists():
            return False
        try:
            tensors, header = load_weights(path, "Checkpoint")
        except UserError:
            return False
        if header.get("identity") != identity:
            return False
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"parameters.{index}"])
                self.average[index].copy_(tensors[f"average.{index}"])
                prefix = f"optimiser.{index}."
                self.optimiser.state[parameter] = {
                    name.removeprefix(prefix): value.to(parameter.device)
                    for name, value in tensors.items()
                    if name.startswith(prefix)
                }
        self.generator.set_state(tensors["generator"])
        device = self.parameters[0].device
        self.sums = {
            name.removeprefix("sums."): value.to(device) for name, value in tensors.items() if name.startswith("sums.")
        }
        self.rows, self.step, self.seconds = header["rows"], header["step"], header["seconds"]
        return True
