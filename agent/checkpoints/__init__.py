"""Checkpoint folders: reading, writing, fetching them, and weights of others."""
