"""What runs a network: arrays in, arrays out."""
