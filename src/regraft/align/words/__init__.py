"""Words of two languages: their tables, dictionaries, and how well a map finds translations."""
