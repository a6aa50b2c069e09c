"""Helpers of the Snakemake rules, and what keeps Snakemake's records and DVC's in step."""
