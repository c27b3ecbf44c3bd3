"""Pairs of a start and a goal: fixed lists, fresh ones, recorded and replayed ones."""
