"""lando-fsm: runs each CWL workflow on a VM of its own, as an explicit, persisted state machine."""

__version__ = "0.1.0"
