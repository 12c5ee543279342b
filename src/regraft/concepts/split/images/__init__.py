"""Images by class: read, drawn, judged."""
