"""The daemon: one loop over queue, store and cloud. Read ``daemon.py`` first."""
