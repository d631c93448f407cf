"""Pixels in, pixels out: decode, resize, estimate the foreground, compose, encode. No torch.

picture = io.decode("photo.jpg")
plan = geometry.Preprocess().plan(picture.height, picture.width)
alpha = plan.restore(network(plan.apply(picture.pixels)))
colours = foreground.estimate_foreground(picture.pixels, alpha, dtype=picture.pixels.dtype)
io.write_atomic("cutout.png", io.encode(colours, alpha))
"""
