"""Pictures that only reports of this family show."""
