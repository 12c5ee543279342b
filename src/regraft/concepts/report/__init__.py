"""What only the pages of concepts show: contact sheets, and identity beside prompt match."""
