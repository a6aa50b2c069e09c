"""Networks: the temporal U-Net and the environment's learned mechanisms."""
