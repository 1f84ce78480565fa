"""Packaging of lando-fsm: the daemon and its clients (lando), and what runs inside a VM (lando_worker)."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

setup(
    name="lando-fsm",
    version="0.1.0",
    description="Runs each CWL workflow on a VM of its own, as an explicit, persisted state machine.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[
        *find_namespace_packages(include=["lando", "lando.*"]),
        *find_namespace_packages("worker", include=["lando_worker"]),
    ],
    package_dir={"lando": "lando", "lando_worker": "worker/lando_worker"},
    package_data={"lando": ["py.typed"], "lando.app": ["bootstrap.sh"], "lando_worker": ["py.typed", "*.sh"]},
    install_requires=[
        "transitions>=0.9.2",
        "SQLAlchemy>=2.0.30",
        "alembic>=1.13",
        "PyYAML>=6.0",
        "pika>=1.3.2",
        "python-novaclient>=18.0",
        "keystoneauth1>=5.0",
        "requests>=2.28",
        "urllib3>=1.26",
        "tenacity>=8.2",
        "click>=8.1",
        "rich>=13.7",
        "platformdirs>=4.0",
        "cwltool>=3.1.20240508115724",
    ],
    extras_require={
        "dev": [
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "pytest-timeout>=2.3",
            "hypothesis>=6.100",
            "mypy>=1.10",
            "ruff>=0.6",
            "types-PyYAML",
            "sequali>=0.12",
        ],
        "demo": ["sequali>=0.12"],
    },
    entry_points={
        "console_scripts": [
            "lando-fsm = lando.cli:main",
            "lando-client = lando.cli.client:main",
        ]
    },
)
