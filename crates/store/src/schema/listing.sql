-- Whose, and how it stands: so that a list finds what a filter lets through without looking at the rest.
DROP INDEX approvals_agent;
CREATE INDEX approvals_of ON approvals (agent, state, open);
CREATE INDEX snapshots_of ON snapshots (agent, target, live);
CREATE INDEX grants_of ON grants (agent, open);
