"""Where the tensors live."""

import os
from functools import cache

import torch


def choose_device() -> torch.device:
    """The first CUDA device, or the CPU; DMEMM_DEVICE (e.g. `cpu`, `cuda:1`) overrules."""
    return torch.device(os.environ.get("DMEMM_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))


# Parameters from which a network on a CPU gains by bfloat16; a smaller one loses more by the conversions.
LARGE = 1_000_000


def mixed_precision(device: torch.device, parameters: int) -> torch.autocast:
    """The context of a network of so many parameters: bfloat16 products where that is faster, weights in float32."""
    faster = device.type == "cuda" or (parameters >= LARGE and _has_bfloat16())
    return torch.autocast(device.type, torch.bfloat16, enabled=faster)


@cache
def _has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively; where it is emulated, it is slower than float32."""
    return torch.cpu._is_avx512_bf16_supported()
