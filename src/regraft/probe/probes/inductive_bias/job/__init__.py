"""What `regraft probe bias` does: a task from files, models whose errors are asked about, the report with its pictures."""
