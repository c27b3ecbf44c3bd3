"""Commands that add to a trained checkpoint: what its frames look like, landmarks, other looks."""
