"""Diagrams of the state machine, made from the table that runs. ``graph.py`` says what is drawn."""
