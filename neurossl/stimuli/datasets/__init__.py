"""Image sets: loaded by name, from folders of pictures, or from arrays."""

from neurossl.stimuli.datasets.catalogue import DatasetRequest, dataset_names, register_dataset
from neurossl.stimuli.datasets.images import ImageSet, balanced
from neurossl.stimuli.datasets.loading import load_images
from neurossl.stimuli.datasets.streamed import StreamedImages

__all__ = ["DatasetRequest", "ImageSet", "StreamedImages", "balanced", "dataset_names", "load_images", "register_dataset"]
