"""Errors that code for segment_anything catches by its own types, and code for this package by ours."""

from __future__ import annotations

from mobilesam.core.errors import ConfigError, ImageError, PromptError, WeightsError


class NoSuchAttributeError(ConfigError, AttributeError):
    """An attribute of another library's class that does not exist here, so that ``hasattr`` says no."""


class NoImageError(ConfigError, RuntimeError):
    """A question about the current image before there is one; segment_anything's RuntimeError."""


class ConfigAssertionError(ConfigError, AssertionError):
    """An argument for which segment_anything raises AssertionError."""


class ImageAssertionError(ImageError, AssertionError):
    """An image for which segment_anything raises AssertionError."""


class PromptAssertionError(PromptError, AssertionError):
    """A prompt for which segment_anything raises AssertionError."""


class CheckpointNotFoundError(WeightsError, FileNotFoundError):
    """A missing checkpoint; segment_anything's FileNotFoundError."""
