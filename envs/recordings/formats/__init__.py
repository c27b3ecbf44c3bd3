"""What others record: videos, pictures in tables, and the layouts of other projects, read in place."""
