"""Do two spaces agree? Maps from one space of vectors to another, learned from pairs, and how well they do."""
