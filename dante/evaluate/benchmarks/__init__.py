"""The published benchmarks: where their items lie, what is asked, and who judges."""
