"""The command lines: train, plan, report and the rest, and the settings they take."""
