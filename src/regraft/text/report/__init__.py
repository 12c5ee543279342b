"""What only reports of encoders show."""
