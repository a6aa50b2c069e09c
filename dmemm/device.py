"""The device of the tensors, and whether products there are in bfloat16."""

import fcntl
import os
import tempfile
from functools import cache
from pathlib import Path

import torch

from dmemm.errors import UserError


def choose_device() -> torch.device:
    """Return a CUDA device, or the CPU where there is none; DMEMM_DEVICE (e.g. `cpu`, `cuda:1`) overrides the choice.

    Of the devices that CUDA_VISIBLE_DEVICES leaves, it is the first that no other process of this user has chosen, or
    any once all are chosen. It is the same for the whole process.

    Raises:
        UserError: DMEMM_DEVICE names no device that torch has here.
    """
    name = os.environ.get("DMEMM_DEVICE")
    if not name:
        return _free_device() if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"DMEMM_DEVICE={name}: no such device; unset it, or use `cpu`, `cuda` or `cuda:1`") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"DMEMM_DEVICE={name}: not supported; unset it, or use `cpu`, `cuda` or `cuda:1`")
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= here:
        raise UserError(f"DMEMM_DEVICE={name}: torch finds no such CUDA device here; unset it, or use `cpu`")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # streams and graphs are made on the current device
    return device


@cache
def _free_device() -> torch.device:
    count = torch.cuda.device_count()
    # By their own names: their numbers depend on CUDA_VISIBLE_DEVICES.
    free = (index for index in range(count) if _lock(str(torch.cuda.get_device_properties(index).uuid)))
    device = torch.device("cuda", next(free, os.getpid() % count))
    torch.cuda.set_device(device)
    return device


def _lock(name: str) -> bool:
    """Lock a device until this process ends, however it ends; False if another process has it."""
    path = Path(tempfile.gettempdir(), f"dmemm-{os.getuid()}-{name}.lock")
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    return True  # the file stays open: closing it would unlock


# Parameters from which bfloat16 is faster on a CPU; in a smaller network its conversions cost more than it saves.
LARGE = 500_000


def mixed_precision(device: torch.device, parameters: int) -> torch.autocast:
    """Return the autocast context of a network: bfloat16 products where that is faster, weights in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_faster(device, parameters))


def bfloat16_is_faster(device: torch.device, parameters: int) -> bool:
    """Return whether products in bfloat16 make a network of so many parameters faster."""
    return device.type == "cuda" or (parameters >= LARGE and _has_bfloat16())


@cache
def _has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 natively; emulated, it is slower than float32."""
    return torch.cpu._is_avx512_bf16_supported()
