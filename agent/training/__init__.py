"""Learning a world model from a recording: windows, loss, loop, and what is saved on the way."""
