"""TwoRoom and Wall: a dot that moves through doors."""
