"""Level-1 like events: hardware words of trigger objects, stitched minimum bias, signals."""
