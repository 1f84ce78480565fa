"""The cloud, where servers are. ``interface.py`` says what every cloud does; it knows nothing of jobs."""
