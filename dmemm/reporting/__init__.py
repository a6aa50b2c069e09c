"""Make the paper's tables and figure from score files."""
