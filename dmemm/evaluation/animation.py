"""Animations as GIF files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from dmemm.files import replacing

Animation = tuple[Figure, Callable[[int], None], int]  # what draws frame i, and the number of frames


def write(animation: Animation, output: Path) -> None:
    """Write all frames, the last of which stays for longer."""
    figure, draw, count = animation
    canvas, frames = FigureCanvasAgg(figure), []
    for frame in range(count):
        draw(frame)
        canvas.draw()
        figure.set_layout_engine("none")  # keep the first frame's layout: computing it is slower than drawing a frame
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(64))
    duration = [66] * (len(frames) - 1) + [1500]  # milliseconds
    with replacing(output) as temporary:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0)


def evenly(values: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` of the values, evenly spread, the first and the last included."""
    return [values[i] for i in np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))]
