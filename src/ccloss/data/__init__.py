"""Images: where they come from, how they are augmented, and how they reach the device.

* :mod:`ccloss.data.catalog`: the data sets known by name (light: imports no torch);
* :mod:`ccloss.data.images`: one split of images, in memory or decoded on access;
* :mod:`ccloss.data.layouts`: the layouts on disk, and the Hub;
* :mod:`ccloss.data.sources`: ``load``, ``hold_out``, ``verify``;
* :mod:`ccloss.data.augment`: random draws, crops and flips;
* :mod:`ccloss.data.loader`: batches for training and evaluation.
"""
