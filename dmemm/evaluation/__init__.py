"""Scores of plans executed in the environment."""
