"""napari's plug-in: points and boxes in layers become masks in a layer of labels. napari finds it by ``napari.yaml``."""
