"""Images that hold data: what is in a file, and how a format lays it out.

Nothing here knows of machines, nodes or clients.  All calls do their work at once and may take their time, so whoever
serves a machine makes them in a thread.  An image is used by one thread at a time.
"""
