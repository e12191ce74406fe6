"""What runs a model that benchmarks are asked of, each in its file."""
