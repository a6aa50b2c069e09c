"""Data sets: raw files, where they come from, and the segments trained on."""
