"""`regraft probe`: what representations hold. One module a verb; each registers itself with the group."""
