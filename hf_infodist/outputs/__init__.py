"""What a classifier makes of images: logits, and features of all layers."""
