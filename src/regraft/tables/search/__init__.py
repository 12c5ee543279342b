"""What searches for rows and widths: a step function with a gradient, and an evolution."""
