"""Benchmarks whose answers are programs: read out of an answer, run in the sandbox, judged by the set's own tests."""
