"""Apps, recordings and the engine that settles scores.

Nothing is imported here: a program that has an app loads neither guards nor whatever else it does not use.
"""
