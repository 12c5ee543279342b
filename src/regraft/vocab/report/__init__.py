"""What only the reports of a changed vocabulary show."""
