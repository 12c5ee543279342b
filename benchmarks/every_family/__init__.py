"""A tiny random model of every class that reads text ids, and what is asked of each."""
