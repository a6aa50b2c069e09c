"""Networks: those of diffusion models, sequence models, and the environment's learned mechanisms."""
