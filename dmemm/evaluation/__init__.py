"""Evaluate plans in the environment."""
