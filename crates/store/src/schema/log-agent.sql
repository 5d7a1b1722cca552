-- What an agent did last is found without looking through what all the others did.
CREATE INDEX log_agent ON log (agent) WHERE kind = 'check';
-- And of approvals, of which most are over: what one agent asked for, and what ended in one way.
CREATE INDEX approvals_agent ON approvals (agent);
CREATE INDEX approvals_state ON approvals (state);
