"""What a model reaches: the benchmark, single attempts, and their pictures and videos."""
