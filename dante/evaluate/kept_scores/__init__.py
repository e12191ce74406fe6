"""What was measured of a teacher, kept beside the cache that it wrote, for those who have not its weights."""
