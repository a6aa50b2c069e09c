"""The pipeline's own code: helpers of the Snakemake rules and the bridge between Snakemake and DVC."""
