"""The trio side: listeners, connections, main-loop tasks, signals."""
