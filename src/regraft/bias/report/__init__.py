"""Pages of priors."""
