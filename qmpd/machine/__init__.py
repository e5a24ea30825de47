"""The run-state core: run states, pending requests, the main loop's turn, the virtual guest."""
