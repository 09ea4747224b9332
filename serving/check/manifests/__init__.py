"""Reading: the objects of a rendering, what runs in their containers, and the files that these mount."""
