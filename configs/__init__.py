"""Hydra configuration as package data: config.yaml plus one option file per env, model and planner."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
