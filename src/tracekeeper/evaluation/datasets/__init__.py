"""``tk.Dataset``: versioned items, their formats in and out, differences, schema."""
