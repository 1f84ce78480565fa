"""The commands ``lando-fsm`` and ``lando-client``: one module per command."""
