"""What only reports on growth show."""
