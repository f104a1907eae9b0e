"""Pages and figures of ``docs/performance/``, rendered from ``dev/bench/results/*.json``."""
