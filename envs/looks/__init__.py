"""How worlds look other than usual: grounds, clutter, light, camera, and how a look is drawn from a seed."""
