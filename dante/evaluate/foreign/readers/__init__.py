"""One file per harness: which files are its, and what they say."""
