"""Training data: sources, the order of samples, augmentation, compositing, caching and checks."""
