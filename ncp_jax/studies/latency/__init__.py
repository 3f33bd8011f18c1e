"""How fast predictors are inverted: start-up, steady state, the share of the device's own matrix products, rivals.

``study`` runs a ``plan`` in processes of their own (``process`` at our end, ``child`` at theirs): ``engine`` is what
is measured, ``rivals`` and ``torch_rivals`` are what it is measured against, ``products`` is the yardstick.
"""
