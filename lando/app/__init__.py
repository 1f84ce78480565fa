"""Puts the parts together as the configuration says: the only place that chooses a queue and a cloud."""
