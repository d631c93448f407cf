"""The paper: encoder, decoder, blocks, and the builder that turns a configuration into a module."""
