"""Shared by the routes of several services: read bodies, describe them, keep results."""
