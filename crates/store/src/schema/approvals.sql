-- Most approvals are over: what one agent asked for, and what ended in one way. Checks have no such index: it would
-- more than double what the database does for each of them.
CREATE INDEX approvals_agent ON approvals (agent);
CREATE INDEX approvals_state ON approvals (state);
