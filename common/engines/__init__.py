"""Where independent pieces of work run: processes here, a Ray cluster, Slurm jobs; see `engine`."""
