"""Online rules: which stored records, spans and sessions are judged, how many of them, and at what cost."""
