"""Drop-in modules: the interfaces of rembg and transparent-background, run by BiRefNet."""
