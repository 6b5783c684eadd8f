"""Knowledge graphs: read from files, generated, or downloaded benchmarks, and their statistics."""
