"""From an image and prompts to masks: the flow, and what is built on it."""
