"""What is done with a diffusers pipeline: opened, its prompts encoded, new rows put in, its loss taken."""
