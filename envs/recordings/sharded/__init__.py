"""A recording in shards: files of a folder that many processes or machines write, read as one recording."""
