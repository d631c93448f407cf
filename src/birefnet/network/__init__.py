"""The paper: encoder, decoder, blocks and the builder that turns a `NetworkConfig` into a module."""
