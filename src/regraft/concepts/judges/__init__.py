"""Judges of drawn images: how much of the concept is in them, and how much of the rest of the prompt."""
