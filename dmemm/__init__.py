"""Offline-RL planning with a diffusion model modulated by the environment."""
