"""Rules in the store: their definitions, what they have to decide next, and their decisions."""
