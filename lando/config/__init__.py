"""landoconfig.yml and job files, read strictly: every mistake names its file, line and key."""
