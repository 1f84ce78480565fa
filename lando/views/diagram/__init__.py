"""Diagrams of the state machine, generated from its transitions; ``graph.py`` says what is drawn."""
