"""The eight properties, one file each; `base` says what they share."""
