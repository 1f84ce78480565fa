"""The local cloud: "VMs" that are process groups on this machine. Read ``driver.py`` first."""
