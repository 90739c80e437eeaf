"""Stimuli: images, random views of them, and streams of moments."""

from neurossl.stimuli.images import ImageSet, load_images
from neurossl.stimuli.streams import DoubledInput, FixationSequence, Stream, ViewPairs, WakeSleep, hybrid_mask, write_label
from neurossl.stimuli.views import Views, default_views

__all__ = [
    "DoubledInput",
    "FixationSequence",
    "ImageSet",
    "Stream",
    "ViewPairs",
    "Views",
    "WakeSleep",
    "default_views",
    "hybrid_mask",
    "load_images",
    "write_label",
]
