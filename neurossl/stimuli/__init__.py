"""Stimuli: images, random views of them, and streams of moments."""

from neurossl.stimuli.images import ImageSet
from neurossl.stimuli.loading import load_images
from neurossl.stimuli.phases import DoubledInput, WakeSleep, hybrid_mask, write_label
from neurossl.stimuli.streamed import StreamedImages
from neurossl.stimuli.streams import FixationSequence, Stream, ViewPairs
from neurossl.stimuli.views import Views, default_views

__all__ = [
    "DoubledInput",
    "FixationSequence",
    "ImageSet",
    "Stream",
    "StreamedImages",
    "ViewPairs",
    "Views",
    "WakeSleep",
    "default_views",
    "hybrid_mask",
    "load_images",
    "write_label",
]
