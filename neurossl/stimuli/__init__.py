"""Stimuli: images, random views of them, and streams of moments."""

from neurossl.stimuli.batches import BatchStream, stream_of_batches
from neurossl.stimuli.catalogue import make_stream, register_stream, stream_names
from neurossl.stimuli.datasets import DatasetRequest, ImageSet, StreamedImages, dataset_names, load_images, register_dataset
from neurossl.stimuli.pairs import ViewPairs
from neurossl.stimuli.patches import PatchSequence, patches_of
from neurossl.stimuli.phases import DoubledInput, WakeSleep, doubled, hybrid_mask, write_label
from neurossl.stimuli.sequences import FixationSequence
from neurossl.stimuli.streams import Stream
from neurossl.stimuli.views import Views, default_views

__all__ = [
    "BatchStream",
    "DatasetRequest",
    "DoubledInput",
    "FixationSequence",
    "ImageSet",
    "PatchSequence",
    "Stream",
    "StreamedImages",
    "ViewPairs",
    "Views",
    "WakeSleep",
    "dataset_names",
    "default_views",
    "doubled",
    "hybrid_mask",
    "load_images",
    "make_stream",
    "patches_of",
    "register_dataset",
    "register_stream",
    "stream_names",
    "stream_of_batches",
    "write_label",
]
