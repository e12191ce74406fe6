"""Where tokens lie in a text, and which there are."""
