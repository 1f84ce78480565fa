"""Tests against a real OpenStack, which ``lab`` runs on this machine; ``make test-openstack`` runs them."""
