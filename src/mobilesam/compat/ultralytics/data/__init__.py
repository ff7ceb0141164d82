"""The part of ``ultralytics.data`` that exists here."""
