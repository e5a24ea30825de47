"""A machine's clock and its timers."""
