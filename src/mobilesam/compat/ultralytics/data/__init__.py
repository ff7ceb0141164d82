"""What of ``ultralytics.data`` there is."""
