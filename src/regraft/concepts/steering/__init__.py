"""What is unwanted in a prompt, taken out of what the U-Net reads of it: without training, and whatever the pipeline was taught by."""
