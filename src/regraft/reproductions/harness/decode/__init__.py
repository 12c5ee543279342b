"""What the reproduction of images of embeddings needs: small real images, and encoders that learn on them without labels."""
