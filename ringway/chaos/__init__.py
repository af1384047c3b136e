"""Traffic that keeps books: every message sent, every message delivered, and what is missing. See `ringway chaos`."""
