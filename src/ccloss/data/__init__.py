"""Images: sources, layouts on disk, decoding, augmentation and loaders.

* :mod:`ccloss.data.catalog`: the data sets known by name (imports no torch);
* :mod:`ccloss.data.layouts`: which layout a folder has; :mod:`~ccloss.data.folders` and
  :mod:`~ccloss.data.archives` read them into :mod:`~ccloss.data.tables`;
* :mod:`ccloss.data.labels`, :mod:`ccloss.data.splitting`: classes by name, held-out images by hash;
* :mod:`ccloss.data.sources`: ``load``, ``check_same_data``;
* :mod:`ccloss.data.verification`: ``verify``;
* :mod:`ccloss.data.stores`, :mod:`ccloss.data.decoding`, :mod:`ccloss.data.scan`,
  :mod:`ccloss.data.cache`: from stored bytes to tensors;
* :mod:`ccloss.data.images`: one split of a data set;
* :mod:`ccloss.data.augment`, :mod:`ccloss.data.loader`: random crops and flips, batches.
"""
