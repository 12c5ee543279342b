"""Click models over compressed tables: what they are, how they are trained and compared."""
