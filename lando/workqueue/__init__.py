"""The work queue: what a daemon reads and others send. ``interface.py`` says what every queue does."""
