"""Results of other harnesses, ours or somebody else's, as `eval.json` and as a model card's metadata."""
