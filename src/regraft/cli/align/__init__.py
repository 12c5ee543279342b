"""`regraft align`: maps between spaces. One module a verb; each registers itself with the group."""
