"""Where the tensors live."""

import os
from functools import cache

import torch


def choose_device() -> torch.device:
    """The first CUDA device, or the CPU; DMEMM_DEVICE (e.g. `cpu`, `cuda:1`) overrules."""
    return torch.device(os.environ.get("DMEMM_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))


def mixed_precision(device: torch.device) -> torch.autocast:
    """The context of the network: its products in bfloat16 where the hardware has them, weights in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or _has_bfloat16())


@cache
def _has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively; where it is emulated, it is slower than float32."""
    return torch.cpu._is_avx512_bf16_supported()
