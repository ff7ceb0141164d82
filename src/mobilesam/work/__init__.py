"""What spreads work over many photos: this machine's threads, or anything else that follows the Protocol."""
