"""Graph to graph: folding, canonical forms, fusion.  ``pipeline.PASSES`` is the list, in order."""
