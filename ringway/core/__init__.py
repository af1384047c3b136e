"""The pure core: ring, members, tickets, frames, close codes, backoff, errors. See README.md for the rule."""
