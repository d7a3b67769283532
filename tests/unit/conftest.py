from hypothesis import settings

# A slow machine is no failure: timing is never asserted.
settings.register_profile("mesh", deadline=None)
settings.load_profile("mesh")
