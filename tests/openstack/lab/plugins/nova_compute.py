"""nova-compute, which loads virt drivers from Nova's own package only: ours becomes a part of it."""

import sys
from pathlib import Path

import nova.virt
from nova.cmd.compute import main

nova.virt.__path__.append(str(Path(__file__).parent))
sys.argv[0] = "nova-compute"
sys.exit(main())
