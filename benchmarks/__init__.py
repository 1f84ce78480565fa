"""What lando-fsm costs, measured beside a floor in the same run."""
