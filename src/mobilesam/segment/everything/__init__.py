"""Segment everything: where to ask, and which of the masks stay. The flow is ``mobilesam.segment.everything.search``."""
