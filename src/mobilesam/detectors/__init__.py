"""What finds boxes in an image: of any object, or of what texts name."""
