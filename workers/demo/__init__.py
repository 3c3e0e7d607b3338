"""The demo: the main job on real parts, from nothing, in under a minute."""
