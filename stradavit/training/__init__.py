"""Pretraining: one loop that can be killed at any step and ends with the same weights."""
