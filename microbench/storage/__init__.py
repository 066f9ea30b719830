"""Characterisations and journals on disk: JSON, folders, names, and files that are never overwritten."""
