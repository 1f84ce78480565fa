"""The rules between the state machine and the world. Read ``engine.py`` first."""
