"""ML2 mechanism driver that binds every port at once, as if an agent had wired it.

Where servers are no machines there is nothing to wire, yet Nova needs a bound port.
"""

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api


class AlwaysBind(api.MechanismDriver):
    """It has no agent, and nothing to do but this."""

    def initialize(self):
        """Of the interface."""

    def bind_port(self, context):
        """To the first segment that Neutron offers."""
        for segment in context.segments_to_bind[:1]:
            context.set_binding(
                segment[api.ID],
                portbindings.VIF_TYPE_BRIDGE,
                {portbindings.CAP_PORT_FILTER: False},
                status=constants.PORT_STATUS_ACTIVE,
            )
