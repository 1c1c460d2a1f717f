"""Bringing files here over a network that lies, stalls and breaks."""
