"""neutron-server, whose mappers are configured before it forks.

Zed's list of ports reads an attribute that is not there before that, and it may be a process's first query.
"""

import sys

from neutron.cmd.eventlet.server import main
from neutron.db.migration.models import head  # noqa: F401  (every model)
from sqlalchemy import orm

orm.configure_mappers()
sys.argv[0] = "neutron-server"
sys.exit(main())
