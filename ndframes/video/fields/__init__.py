"""Files of numeric fields: a video that any player shows, and the exact numbers beside it."""
