"""Pages of models of facts."""
