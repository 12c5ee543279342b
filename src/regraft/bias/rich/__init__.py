"""Rich feature construction: find features one after the other, put them into one encoder, and train what should hold everywhere."""
