"""What spreads the work on many photos: threads of this machine, or whatever else keeps the Protocol."""
