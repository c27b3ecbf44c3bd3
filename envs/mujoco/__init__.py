"""Worlds simulated by MuJoCo: Reacher, PointMaze and Cube."""
