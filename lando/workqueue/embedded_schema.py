"""The tables of the embedded queue, in SQL."""

from __future__ import annotations

SCHEMA = """
CREATE TABLE IF NOT EXISTS queue_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, sender TEXT,
    raw BLOB NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS queue_dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, reason TEXT NOT NULL, raw BLOB NOT NULL, at REAL NOT NULL,
    origin TEXT, sender TEXT, size INTEGER
);
"""
LATER_SCHEMA = """
CREATE INDEX IF NOT EXISTS queue_messages_by_origin ON queue_messages (origin);
CREATE TABLE IF NOT EXISTS queue_reports_waiting (messages INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO queue_reports_waiting
    SELECT * FROM
        (SELECT count(*), coalesce(sum(length(raw)), 0) FROM queue_messages WHERE origin = 'worker')
    WHERE NOT EXISTS (SELECT 1 FROM queue_reports_waiting);
CREATE TRIGGER IF NOT EXISTS queue_report_added AFTER INSERT ON queue_messages WHEN new.origin = 'worker'
BEGIN
    UPDATE queue_reports_waiting SET messages = messages + 1, bytes = bytes + length(new.raw);
END;
CREATE TRIGGER IF NOT EXISTS queue_report_removed AFTER DELETE ON queue_messages WHEN old.origin = 'worker'
BEGIN
    UPDATE queue_reports_waiting SET messages = messages - 1, bytes = bytes - length(old.raw);
END;
"""
"""What the first release did not have. The triggers count what a process of any release adds and removes."""
LATER_COLUMNS = {"origin": "TEXT", "sender": "TEXT", "size": "INTEGER"}
"""Columns of queue_dead_letters that the first release did not have."""
