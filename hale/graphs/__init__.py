"""Knowledge graphs: from files, generated, the pinned benchmarks, and what they hold."""
