"""What every room may use: writing files, wording errors, reading recorded numbers. Imports no other room."""
