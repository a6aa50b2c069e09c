"""From score files to the paper's tables and figure."""
