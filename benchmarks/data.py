"""Segmenting a million transitions, and drawing training batches from them, beside the training step they feed.

python benchmarks/data.py
"""

import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from training import PLAIN, TASK, measure, training_step

from dmemm.config import SegmentConfig
from dmemm.data.raw import RawData, read_raw, write_raw
from dmemm.data.segments import read_segments, segment
from dmemm.data.windows import Windows
from dmemm.device import choose_device

TRANSITIONS, HORIZON, BATCH = 1_000_000, 100, 32


def write_transitions(path: Path) -> None:
    """Random transitions of hopper's sizes in episodes of 700 steps."""
    rng = np.random.default_rng(0)

    def block(length: int) -> RawData:
        states = rng.normal(size=(length, 11)).astype(np.float32)
        actions, reward = rng.normal(size=(length, 3)).astype(np.float32), rng.normal(size=length).astype(np.float32)
        ended = np.arange(1, length + 1) % 700 == 0
        return RawData(states, actions, reward, ended, np.zeros(length, dtype=bool), states, "local", TASK.name)

    write_raw(path, (block(TRANSITIONS // 20) for _ in range(20)))


def main() -> None:
    """Measure and print a Markdown table."""
    device = choose_device()
    with tempfile.TemporaryDirectory() as folder:
        raw_path, segments_path = Path(folder) / "raw.hdf5", Path(folder) / "segments.h5"
        write_transitions(raw_path)
        start = time.perf_counter()
        segment(TASK, SegmentConfig(HORIZON, 0.1, 0.05), raw_path, segments_path)
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        data = Windows(read_raw(raw_path), read_segments(segments_path), TASK, device)
    generator = torch.Generator(device).manual_seed(0)
    small = replace(PLAIN, unet_mults=(1, 2), diffusion_steps=10)
    times = measure(
        {
            "draw": lambda: data.draw(BATCH, generator),
            "small": training_step(small, data, device),
            "full": training_step(PLAIN, data, device),
        },
        7,
        device,
    )
    print(f"| segmenting {TRANSITIONS:,} transitions | {seconds:.1f} s, peak memory {memory:.2f} GiB |\n| --- | --- |")
    print(f"| drawing a batch of {BATCH} | {BATCH / times['draw']:,.0f} windows a second |")
    for name in ("small", "full"):
        print(f"| share of a training step, {name} U-Net | {times['draw'] / times[name]:.1%} |")


if __name__ == "__main__":
    main()
