"""Datasets in the store: items with every state that they have had, so that each version can be read."""
