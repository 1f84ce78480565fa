"""lando-fsm: runs each CWL workflow on its own VM, as an explicit, persisted state machine."""

__version__ = "0.2.0.dev0"
