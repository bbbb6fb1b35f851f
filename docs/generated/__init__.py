"""The parts of documents that tell what was measured: by committed runs, and by the scripts of `benchmarks/`."""
