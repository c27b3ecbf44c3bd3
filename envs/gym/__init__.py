"""Any Gymnasium environment as a world, named gym:ID."""
