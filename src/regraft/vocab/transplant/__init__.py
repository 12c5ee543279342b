"""What a start's rows become: whole tables, in memory or in files, and how far they are from the old ones."""
