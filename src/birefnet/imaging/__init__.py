"""Pixels in, pixels out: decode, resize, estimate the foreground, compose, encode. No torch."""
