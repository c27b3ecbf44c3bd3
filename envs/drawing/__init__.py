"""Drawing without a graphics library: antialiased shapes, rasters, resizing."""
