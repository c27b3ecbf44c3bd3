"""What every room may use: writing files, wording errors. Standard library only."""
