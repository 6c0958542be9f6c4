"""The public API: one module a noun. It translates HTTP to services and back, and does nothing else."""
