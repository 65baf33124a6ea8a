"""Random computation graphs: ops with hand-written VJPs, programs of them, and a reverse tape to run those on."""
