"""Commands for more work than one process does: many checkpoints evaluated, many settings trained."""
