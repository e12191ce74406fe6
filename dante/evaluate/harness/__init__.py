"""lm-evaluation-harness inside the lab: silent, resumable, with the beginnings that options share read once."""
