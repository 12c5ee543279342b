"""Fields of one fused table, each with rows of a width of its own."""
