"""Where the tensors live."""

import os

import torch


def choose_device() -> torch.device:
    """The first CUDA device, or the CPU; DMEMM_DEVICE (e.g. `cpu`, `cuda:1`) overrules."""
    return torch.device(os.environ.get("DMEMM_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))
