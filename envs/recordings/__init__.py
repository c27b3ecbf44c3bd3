"""Recordings of episodes: writing, reading, collecting and converting them."""
