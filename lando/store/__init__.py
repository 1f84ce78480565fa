"""All that is persisted: jobs, their history, the outbox of effects, processed messages, logs."""
