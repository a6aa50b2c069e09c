"""The modulated diffusion model: process, estimators, losses, guidance."""
