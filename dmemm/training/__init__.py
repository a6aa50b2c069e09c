"""Training of the mechanisms, of the plan value and of the diffusion model."""
